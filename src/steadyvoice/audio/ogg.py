"""Framer of Opus in Ogg, which cuts pages into packets (RFC 3533, RFC 6716 section 3.1, RFC 7845)."""

from __future__ import annotations

from steadyvoice.audio.frames import Coding, Frame

_RATE = 48000  # Opus always counts in this rate, whatever the rate of its source

_LONGEST_PACKET = 128 * 1024
"""Bytes of a packet that are held, twice what Opus allows: of tags, which may hold pictures, the rest is dropped."""


class OpusFramer:
    """Framer that cuts Ogg pages into Opus packets. A page is read once all of it has come.

    Samples before the pre-skip and after the last page's granule position are not audible.
    """

    pending_seconds = 0.0
    declares_length = False  # a stream behind another misreports its length
    declared_frames = None

    def __init__(self) -> None:
        self.stray_bytes = 0
        self.misreports_length = False
        self._buffer = bytearray()
        self._needed = 0  # bytes in the buffer below which no page can be complete
        self._stream = _OpusStream()

    @property
    def truncated(self) -> bool:
        return self._buffer.startswith(b"OggS")

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes and return the frames that they complete."""
        self._buffer += data
        frames: list[Frame] = []
        if len(self._buffer) < self._needed:
            return frames
        while page := self._next_page():
            if page[5] & 2:  # the first page of a stream; a file may be several, end to end
                self.misreports_length |= self._stream.begun
                self._stream = _OpusStream()
            frames += self._stream.read(page)
            self.misreports_length |= self._stream.misplaced
        return frames

    def finish(self) -> list[Frame]:
        """Return the frames that were held back at the end of the stream."""
        return []  # the position of an incomplete page is not known

    def _next_page(self) -> bytes | None:
        buffer = self._buffer
        start = buffer.find(b"OggS")
        strange = start if start >= 0 else max(0, len(buffer) - 3)
        self.stray_bytes += strange
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
        self.stray_bytes = self._needed = 0
        del buffer[:length]
        return page


class _OpusStream:
    """Logical stream: two header packets, then audio."""

    def __init__(self) -> None:
        self._serial = b""
        self._coding: Coding | None = None
        self._tags_seen = False
        self._skip = 0  # samples of the pre-skip that remain
        self.misplaced = False  # the position of a page differs from the number of samples before it
        self._position: int | None = None  # granule position at the end of the last page
        self._partial = bytearray()  # packet that continues in the next page

    @property
    def begun(self) -> bool:
        """True if any audio has come."""
        return self._position is not None

    def read(self, page: bytes) -> list[Frame]:
        if self._serial and page[14:18] != self._serial:
            return []  # the page belongs to an interleaved stream
        self._serial = page[14:18]
        audio = [packet for packet in self._packets(page) if self._is_audio(packet)]
        if self._coding is None or not audio:
            return []
        return self._frames(audio, self._coding, page)

    def _packets(self, page: bytes) -> list[bytes]:
        """Join the page's segments to packets: a segment shorter than 255 bytes ends one."""
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
                # FFmpeg would apply the pre-skip a second time, so the header it gets declares none.
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
        # Only the last page may end before its packets do, and not before its last one (RFC 7845, 4.4). Any other
        # difference is a wrong position, as in files made by joining streams without rewriting their pages.
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
            audible = max(0, min(length, left) - skip)
            self._skip -= skip
            left -= length
            frames.append(Frame(packet, audible, coding, skip))
        return frames


def _packet_samples(packet: bytes) -> int:
    """Return the samples in a packet, by its first byte."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        length = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        length = (480, 960)[config & 1]
    else:
        length = (120, 240, 480, 960)[config & 3]
    count = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    return length * count
