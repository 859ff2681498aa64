"""Opus in Ogg, cut into packets by its page headers (RFC 3533, RFC 6716 section 3.1, RFC 7845)."""

from __future__ import annotations

from steadyvoice.audio.frames import Coding, Frame

_RATE = 48000  # Opus counts in this, whatever it was made from

_LONGEST_PACKET = 128 * 1024
"""Bytes of a packet that are held, twice what Opus allows. Of tags, which may hold pictures, the first few are read."""


class OpusFramer:
    """Cuts Ogg pages into Opus packets. A page is read when all of it has come.

    Samples before the pre-skip and after the last page's granule position are not heard.
    """

    begun = 0.0
    tagged = False  # a stream behind another is one that misleads
    told = None

    def __init__(self) -> None:
        self.lost = 0
        self.misleads = False
        self._buffer = bytearray()
        self._needed = 0  # bytes in the buffer without which nothing more can be told
        self._stream = _OpusStream()

    @property
    def torn(self) -> bool:
        return self._buffer.startswith(b"OggS")

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer += data
        frames: list[Frame] = []
        if len(self._buffer) < self._needed:
            return frames
        while page := self._next_page():
            if page[5] & 2:  # the first page of a stream; a file may be several, end to end
                self.misleads |= self._stream.begun
                self._stream = _OpusStream()
            frames += self._stream.read(page)
            self.misleads |= self._stream.misplaced
        return frames

    def finish(self) -> list[Frame]:
        return []  # half a page is a page we cannot place in time

    def _next_page(self) -> bytes | None:
        buffer = self._buffer
        start = buffer.find(b"OggS")
        strange = start if start >= 0 else max(0, len(buffer) - 3)
        self.lost += strange
        del buffer[:strange]
        length = 27
        if len(buffer) >= length:
            length += buffer[26]
        if 27 < length <= len(buffer):
            length += sum(buffer[27:length])
        if len(buffer) < length:
            self._needed = length if start >= 0 else 0
            return None
        with memoryview(buffer) as view:
            page = bytes(view[:length])
        self.lost = self._needed = 0
        del buffer[:length]
        return page


class _OpusStream:
    """One logical stream: two header packets, then audio."""

    def __init__(self) -> None:
        self._serial = b""
        self._coding: Coding | None = None
        self._tags_seen = False
        self._skip = 0  # samples still to be left out
        self.misplaced = False  # a page's position is not where its samples are
        self._position: int | None = None  # the granule position after what was read
        self._partial = bytearray()  # a packet that goes on in the next page

    @property
    def begun(self) -> bool:
        """Whether there was any audio."""
        return self._position is not None

    def read(self, page: bytes) -> list[Frame]:
        if self._serial and page[14:18] != self._serial:
            return []  # something else is interleaved
        self._serial = page[14:18]
        audio = [packet for packet in self._packets(page) if self._is_audio(packet)]
        if self._coding is None or not audio:
            return []
        return self._frames(audio, self._coding, page)

    def _packets(self, page: bytes) -> list[bytes]:
        """Join the page's segments: one shorter than 255 bytes ends a packet."""
        packets, partial = [], self._partial
        if not page[5] & 1:
            partial.clear()
        begin = end = 27 + page[26]
        for length in page[27:begin]:
            end += length
            if length < 255:
                packets.append(bytes(partial) + page[begin:end] if partial else page[begin:end])
                partial.clear()
                begin = end
        partial += page[begin : min(end, begin + _LONGEST_PACKET - len(partial))]
        return packets

    def _is_audio(self, packet: bytes) -> bool:
        if self._coding is None:
            if packet.startswith(b"OpusHead") and len(packet) >= 19:
                # FFmpeg would take the pre-skip off as well, so it is shown none.
                self._coding = Coding("libopus", _RATE, packet[9], packet[:10] + b"\0\0" + packet[12:])
                self._skip = int.from_bytes(packet[10:12], "little")
            return False
        if not self._tags_seen:
            self._tags_seen = True
            return bool(packet) and not packet.startswith(b"OpusTags")
        return bool(packet)

    def _frames(self, packets: list[bytes], coding: Coding, page: bytes) -> list[Frame]:
        lengths = [_packet_samples(packet) for packet in packets]
        granule = int.from_bytes(page[6:14], "little", signed=True)
        last = bool(page[5] & 4)
        if self._position is None:
            self._position = 0 if last else max(0, granule - sum(lengths))
        # Only the last page may end before its packets do, and not before its last one: RFC 7845, 4.4. A position
        # that says anything else is wrong, as where streams were joined without counting anew.
        left = sum(lengths)
        surplus = self._position + left - granule
        self.misplaced |= surplus != 0 and not last
        if last and 0 <= surplus < lengths[-1]:
            left -= surplus
        elif last:
            self.misplaced = True
        self._position += sum(lengths)
        frames = []
        for packet, length in zip(packets, lengths, strict=True):
            skip = min(self._skip, length)
            heard = max(0, min(length, left) - skip)
            self._skip -= skip
            left -= length
            frames.append(Frame(packet, heard, coding, skip))
        return frames


def _packet_samples(packet: bytes) -> int:
    """How long a packet lasts, by its first byte."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        length = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        length = (480, 960)[config & 1]
    else:
        length = (120, 240, 480, 960)[config & 3]
    count = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    return length * count
