"""Audio as other encoders and servers write it: features of the formats that are never in our own output."""

from __future__ import annotations

import struct

import pytest

from steadyvoice.audio.conversion import convert
from steadyvoice.audio.framing import AudioMeter
from steadyvoice.audio.wav import wav_bytes
from steadyvoice.speech.format import AudioFormat

from ..samples import PCM, decoded_samples, encoded_hum, hum, level_at

MP3 = "mp3_44100_128"
OPUS = "opus_48000_64"


def measured_seconds(audio: bytes, name: str) -> float:
    """Return the seconds of audio, and check that splits do not change them."""
    meter = AudioMeter(AudioFormat.parse(name))
    for offset in range(0, len(audio), 97):
        meter.feed(audio[offset : offset + 97])
    assert meter.seconds == AudioMeter(AudioFormat.parse(name)).feed(audio)
    return meter.seconds


def page(packets: bytes, lacing: list[int], *, flags: int = 0, granule: int = -1, serial: int = 0) -> bytes:
    """Return an Ogg page."""
    head = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, serial, 0, 0)
    return head + bytes([len(lacing), *lacing]) + packets


def lacing_of(length: int) -> list[int]:
    """Return the sizes of the segments of one packet."""
    return [255] * (length // 255) + [length % 255]


def pages_of(ogg: bytes) -> list[bytes]:
    return [b"OggS" + rest for rest in ogg.split(b"OggS")[1:]]


def first_packet(ogg_page: bytes) -> bytes:
    """Return the first packet of a page, which must be complete."""
    count = ogg_page[26]
    length = 0
    for size in ogg_page[27 : 27 + count]:
        length += size
        if size < 255:
            break
    return ogg_page[27 + count : 27 + count + length]


@pytest.mark.parametrize("footer", [False, True])
def test_frames_within_an_id3_picture_are_not_counted(footer: bool) -> None:
    audio = encoded_hum(MP3)
    size = bytes(len(audio) >> shift & 0x7F for shift in (21, 14, 7, 0))
    tag = b"ID3\x04\x00" + (b"\x10" if footer else b"\0") + size + audio
    # A footer repeats the header backwards, but its size might be taken for another tag's.
    tag += b"ID3\x04\x00\x10\x00\x00\x7f\x7f" if footer else b""

    assert measured_seconds(tag + audio, MP3) == measured_seconds(audio, MP3)


def test_false_header_in_garbage_hides_no_frame() -> None:
    audio = encoded_hum(MP3)
    rubbish = bytes(10) + b"\xff\xfb\x90\xc4" + bytes(600)

    assert measured_seconds(rubbish + audio, MP3) == measured_seconds(audio, MP3)


def test_vbri_header_is_not_counted() -> None:
    audio = encoded_hum(MP3)
    frame = bytearray(audio[:418])
    frame[36:40] = b"VBRI"

    assert measured_seconds(bytes(frame) + audio, MP3) == measured_seconds(audio, MP3)


def test_ogg_joined_in_its_middle_counts_from_there() -> None:
    pages = pages_of(encoded_hum(OPUS, 0.731))
    head, tags, first, *others = pages
    granule = int.from_bytes(first[6:14], "little")

    assert measured_seconds(b"".join([head, tags, *others]), OPUS) == pytest.approx(0.731 - granule / 48000, abs=1e-6)


def test_interleaved_ogg_stream_is_skipped() -> None:
    pages = pages_of(encoded_hum(OPUS))
    packet = first_packet(pages[3])
    other = page(packet, lacing_of(len(packet)), granule=960, serial=77)

    assert measured_seconds(b"".join([*pages[:3], other, *pages[3:]]), OPUS) == pytest.approx(0.7, abs=1e-6)


def test_packet_across_two_pages_is_joined() -> None:
    pages = pages_of(encoded_hum("opus_48000_192"))
    packet = first_packet(pages[3])
    broken = page(packet[:255], [255]) + page(packet[255:], lacing_of(len(packet) - 255), flags=1, granule=960)
    whole = page(packet, lacing_of(len(packet)), granule=960)

    ours, theirs = (
        convert(b"".join([*pages[:2], *[body] * 5]), AudioFormat.parse(OPUS), PCM) for body in (broken, whole)
    )

    assert ours == theirs
    assert measured_seconds(b"".join([*pages[:2], *[broken] * 5]), OPUS) > 0.09


def test_second_ogg_stream_is_decoded_by_its_own_header() -> None:
    audio = encoded_hum(OPUS)
    offset = audio.index(b"OpusHead") + 16
    louder_later = audio + audio[:offset] + struct.pack("<h", -20 * 256) + audio[offset + 2 :]  # decibels / 256

    samples = decoded_samples(louder_later, OPUS)

    assert level_at(samples[1000:5000], 440, 8000) == pytest.approx(8000, rel=0.05)
    assert level_at(samples[6600:10600], 440, 8000) == pytest.approx(800, rel=0.05)


def test_flac_frame_that_contains_a_header_is_one_frame() -> None:
    audio = encoded_hum("flac_24000")
    first = audio.index(b"\xff\xf8")
    header = audio[first : first + 16]

    assert measured_seconds(audio[: first + 40] + header + audio[first + 40 :], "flac_24000") == pytest.approx(0.7)


def test_extensible_wav_with_unknown_chunks_is_read() -> None:
    pcm = hum(0.5, 24000)
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 24000, 48000, 2, 16, 22, 16, 4) + guid
    chunks = [
        b"LIST" + struct.pack("<I", 3) + b"abc\0",
        b"fmt " + struct.pack("<I", len(form)) + form,
        b"data" + struct.pack("<I", len(pcm)) + pcm,
    ]
    audio = b"RIFF\0\0\0\0WAVE" + b"".join(chunks)

    assert convert(audio, AudioFormat.parse("wav_24000"), PCM) == pcm
    assert measured_seconds(audio, "wav_24000") == 0.5


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000])
def test_wav_of_unknown_size_is_read_to_the_end(size: int) -> None:
    audio = bytearray(wav_bytes(hum(0.5, 24000), 24000))
    audio[40:44] = struct.pack("<I", size)

    assert measured_seconds(bytes(audio), "wav_24000") == 0.5


@pytest.mark.parametrize(("tag", "bits", "scale"), [(1, 8, "B"), (1, 32, "i"), (3, 32, "f"), (3, 64, "d")])
def test_wav_samples_of_every_kind_are_read(tag: int, bits: int, scale: str) -> None:
    values = struct.unpack("<12000h", hum(0.5, 24000))
    as_kind = {"B": lambda v: (v >> 8) + 128, "i": lambda v: v << 16}.get(scale, lambda v: v / 32768)
    data = struct.pack(f"<12000{scale}", *map(as_kind, values))
    width = bits // 8
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, tag, 1, 24000, 24000 * width, width, bits)
    audio = head + b"data" + struct.pack("<I", len(data)) + data

    assert level_at(decoded_samples(audio, "wav_24000"), 440, 8000) == pytest.approx(8000, rel=0.03)
    assert measured_seconds(audio, "wav_24000") == 0.5


def ape_tag(size: int, *, with_header: bool = True) -> bytes:
    """Return a tag with a picture that looks like the beginnings of frames."""
    items = struct.pack("<II", size, 2) + b"Cover Art (Front)\0" + b"\xff\xfb\x90\xc4" * (size // 4)

    def end(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, len(items) + 32, 1, flags) + bytes(8)

    return (end(0xA0000000) if with_header else b"") + items + end(0x80000000)


ID3V1 = b"TAG" + bytes(125)


@pytest.mark.parametrize("name", ["mp3_44100_128", "mp3_22050_32", "aac_44100_128"])
def test_tags_of_any_kind_and_size_are_skipped(name: str) -> None:
    audio = encoded_hum(name)
    seconds = measured_seconds(audio, name)

    for tagged in (audio + ape_tag(40_000), ape_tag(40_000) + audio, audio + ape_tag(400) + ID3V1, audio + ID3V1):
        meter = AudioMeter(AudioFormat.parse(name))
        for offset in range(0, len(tagged), 1000):
            meter.skim(tagged[offset : offset + 1000])
        assert meter.seconds == pytest.approx(seconds)
        assert meter.format_mismatch is None
    both = audio + ape_tag(40_000) + audio
    assert measured_seconds(both, name) == pytest.approx(2 * seconds)
    samples = len(convert(audio, AudioFormat.parse(name), PCM))
    assert len(convert(both, AudioFormat.parse(name), PCM)) == pytest.approx(2 * samples, abs=8)


@pytest.mark.parametrize("size", [1, 7, 333, 100_000])
def test_concatenated_flac_streams_are_all_read(size: int) -> None:
    audio = encoded_hum("flac_24000")
    three = audio * 3
    meter = AudioMeter(AudioFormat.parse("flac_24000"))
    for offset in range(0, len(three), size):
        meter.feed(three[offset : offset + size])
    assert meter.seconds == pytest.approx(3 * measured_seconds(audio, "flac_24000"))
    assert len(convert(three, AudioFormat.parse("flac_24000"), PCM)) == 3 * len(
        convert(audio, AudioFormat.parse("flac_24000"), PCM)
    )


@pytest.mark.parametrize("position", [-1, 0, 1, 10**6, 10**15])
def test_impossible_granule_position_truncates_nothing(position: int) -> None:
    audio = bytearray(encoded_hum("opus_48000_64"))
    seconds = measured_seconds(bytes(audio), "opus_48000_64")
    last = audio.rindex(b"OggS")
    audio[last + 6 : last + 14] = position.to_bytes(8, "little", signed=True)

    assert seconds <= measured_seconds(bytes(audio), "opus_48000_64") < seconds + 0.02
    assert measured_seconds(bytes(audio) * 2, "opus_48000_64") == pytest.approx(
        2 * measured_seconds(bytes(audio), "opus_48000_64")
    )
