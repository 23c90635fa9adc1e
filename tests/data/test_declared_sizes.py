"""What a file only declares is checked before memory is taken for it, and pictures are taken one by one."""

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from peak import peak_of
from PIL import Image
from toy_dataset import pictures, write_toy

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.sizes import RAISED
from svms_gr00t.data.footer import columns_of
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.table import read_columns, read_images
from svms_gr00t.data.lerobot.video import VideoReader, encode_video
from svms_gr00t.data.mp4 import check_declared_frames
from svms_gr00t.data.parquet import read_parquet
from svms_gr00t.data.processor.images import ImagePipeline
from svms_gr00t.data.show import draw_dataset

MB = 1 << 20


def still(path: Path, side: int, count: int) -> Path:
    """A clip of one grey picture: a few kilobytes, however large."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=20, options={"preset": "ultrafast", "threads": "1"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((side, side, 3), 90, np.uint8), format="rgb24")
        for number in range(count):
            frame.pts, frame.time_base = number, Fraction(1, 20)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_clip_is_never_whole_in_memory_at_its_own_size(tmp_path: Path) -> None:
    path = still(tmp_path / "clip.mp4", 480, 60)
    assert path.stat().st_size < 20_000
    reader, images = VideoReader(path), ImagePipeline(short_side=28)
    reader.read([0])  # the decoder's own frames
    kept: list[np.ndarray] = []
    assert peak_of(lambda: kept.append(reader.read(range(60), images.resize))) < 20 * MB
    np.testing.assert_array_equal(kept[0], images.resize(reader.read(range(60))))
    assert peak_of(lambda: reader.read(range(60))) > 35 * MB, "mutant: all frames, then their size"


def test_decoded_pictures_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = VideoReader(still(tmp_path / "clip.mp4", 400, 60))
    monkeypatch.setenv(RAISED, "frames_bytes=1e7")
    with pytest.raises(DataError, match=r"60 pictures of 400 x 400 x 3, 28,800,000 bytes.*frames_bytes=28800000"):
        reader.read(range(60))


def patched(path: Path, box: bytes, at: int, number: int) -> None:
    """The clip with a number of a box changed, `at` bytes after its name."""
    data = bytearray(path.read_bytes())
    place = data.index(box) + 4 + at
    data[place : place + 4] = struct.pack(">I", number)
    path.write_bytes(data)


def test_frames_that_are_only_declared_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kilobyte that says it holds a million frames of one byte."""
    path, count = tmp_path / "clip.mp4", 1_000_000
    encode_video(path, pictures(20), fps=20)
    patched(path, b"stsz", 4, 1)
    for box, at in ((b"stsz", 8), (b"stts", 8), (b"stsc", 12)):
        patched(path, box, at, count)

    def refused() -> None:
        with pytest.raises(DataError, match="declares 1,000,000 frames"):
            VideoReader(path)

    monkeypatch.setenv(RAISED, "clip_frames=999999")
    assert peak_of(refused) < 8 * MB
    with av.open(str(path)) as opened:
        assert opened.streams.video[0].frames == count
    assert peak_of(lambda: av.open(str(path))) > 40 * MB, "mutant: FFmpeg makes a list of them"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def test_edits_and_fragments_count_as_frames(tmp_path: Path) -> None:
    """FFmpeg lists a track's samples again for each edit, and a fragment's need no byte each."""
    sizes, path = box(b"stsz", struct.pack(">III", 0, 1, 1_000_000)), tmp_path / "clip.mp4"
    many = box(b"edts", box(b"elst", struct.pack(">II", 0, 5) + bytes(60)))
    media = box(b"mdia", box(b"minf", box(b"stbl", sizes)))
    run = box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, 3_000_001))))
    head, one = box(b"ftyp", bytes(16)), box(b"moov", box(b"trak", media))
    for body, fine in (
        (one, True),
        (one + one, True),
        (box(b"moov", box(b"trak", many + media)), False),
        (one + run, False),
    ):
        path.write_bytes(head + body)
        if fine:
            check_declared_frames(path)
            continue
        with pytest.raises(DataError, match="clip_frames"):
            check_declared_frames(path)
    endless = struct.pack(">I4s", 0, b"moov") + struct.pack(">I4s", 3, b"trak")
    path.write_bytes(head + endless + struct.pack(">I4sQ", 1, b"free", 1 << 60))
    check_declared_frames(path)  # and comes to an end


def test_a_clip_that_grows_half_way_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container says one size; what the frames themselves say is checked by the decoder before it makes room."""
    small, large = still(tmp_path / "small.mp4", 64, 5), still(tmp_path / "large.mp4", 640, 5)
    path = tmp_path / "both.mp4"
    with av.open(str(path), "w", format="mp4") as out:
        stream, last = None, -1
        for source in (small, large):
            with av.open(str(source)) as container:
                stream = stream or out.add_stream_from_template(container.streams.video[0], opaque=True)
                head = bytes(container.streams.video[0].codec_context.extradata)
                for packet in container.demux(container.streams.video[0]):
                    if packet.dts is not None:
                        fresh = av.Packet(in_band(head) + bytes(packet) if packet.is_keyframe else bytes(packet))
                        last += 1
                        fresh.pts = fresh.dts = last
                        fresh.time_base, fresh.stream = Fraction(1, 20), stream
                        fresh.is_keyframe = packet.is_keyframe
                        out.mux(fresh)
    reader = VideoReader(path)
    with pytest.raises(DataError, match="frames of several sizes"):
        reader.read(range(len(reader)))
    monkeypatch.setenv(RAISED, "picture_pixels=1e5")
    with pytest.raises(DataError, match=r"a broken video|a picture of"):
        VideoReader(path).read([len(reader) - 1])
    with pytest.raises(DataError, match="a picture of 640 x 640"):
        VideoReader(large)


def in_band(head: bytes) -> bytes:
    """The parameter sets of an avcC header, each behind its length, as they may stand in a frame."""
    at, sets = 5, b""
    for mask in (0x1F, 0xFF):
        count, at = head[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(head[at : at + 2], "big")
            sets += struct.pack(">I", size) + head[at + 2 : at + 2 + size]
            at += 2 + size
    return sets


def a_picture(kind: str, side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("1" if kind == "PNG" else "L", (side, side)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_measured_before_it_is_decoded(tmp_path: Path, kind: str) -> None:
    data, path = a_picture(kind, 6000), tmp_path / "rows.parquet"
    assert len(data) < 500_000
    pq.write_table(pa.table({"camera": [{"bytes": data}]}), path)

    def refused() -> None:
        with pytest.raises(DataError, match=r"6,000 x 6,000 pixels.*picture_pixels=36000000"):
            read_images(path, "camera", [0], length=1, only_episode=None, root=tmp_path)

    assert peak_of(refused) < 30 * MB


def test_pillows_own_bound_is_a_sentence_too(tmp_path: Path) -> None:
    parts = {b"IHDR": struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0), b"IDAT": zlib.compress(bytes(9))}
    chunks = [struct.pack(">I", len(v)) + k + v + struct.pack(">I", zlib.crc32(k + v)) for k, v in parts.items()]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"camera": [b"\x89PNG\r\n\x1a\n" + b"".join(chunks)]}), path)
    with pytest.raises(DataError, match="3600000000 pixels"):
        read_images(path, "camera", [0], length=1, only_episode=None, root=tmp_path)


def test_a_long_thin_picture_is_not_scaled_up_by_its_short_side(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"28 x 2,800,000,000 pixels"):
        ImagePipeline(short_side=28).resize(np.zeros((1, 1, 10**8, 3), np.uint8))
    with pytest.raises(DataError, match=r"short_side"):
        ImagePipeline(short_side=10**6)
    root = write_toy(tmp_path / "data")
    with pytest.raises(DataError, match=r"9,000 x 9,000 pixels"):
        draw_dataset(LeRobotDataset.open(root), tmp_path / "out", height=9000)


def test_a_parquet_file_is_measured_by_what_it_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of equal numbers takes a few bytes for any length; a row may be as wide."""
    path, count = tmp_path / "rows.parquet", 6_000_000
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(count)), count // 10)
    pq.write_table(pa.table({"observation.state": wide, "other": np.zeros(10)}), path)
    assert path.stat().st_size < 10_000
    monkeypatch.setenv(RAISED, f"table_bytes={8 * count - 1}")

    def refused() -> None:
        with pytest.raises(DataError, match=f"columns of {8 * count:,} bytes.*--limit table_bytes"):
            read_columns(path, ["observation.state"], length=10)

    assert peak_of(refused) < 8 * MB
    read_columns(path, ["other"], length=10)
    monkeypatch.setenv(RAISED, "")
    assert peak_of(lambda: read_columns(path, ["observation.state"], length=10)) > 40 * MB, "mutant: without the limit"


@pytest.mark.parametrize("form", ["plain", "nested", "dictionary"])
def test_a_text_that_stands_in_every_row_is_counted_as_it_is_unpacked(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300, np.int32)), pa.array(["x" * (MB // 4)]))
    column = texts if form == "dictionary" else texts.dictionary_decode()
    column = pa.StructArray.from_arrays([column], ["path"]) if form == "nested" else column
    pq.write_table(pa.table({"task": column}), path)
    del column
    assert path.stat().st_size < 200_000
    monkeypatch.setenv(RAISED, "meta_bytes=8e6")

    def refused() -> None:
        with pytest.raises(DataError, match=r"--limit meta_bytes"):
            read_parquet(path, most="meta_bytes")

    assert peak_of(refused) < 25 * MB
    monkeypatch.setenv(RAISED, "")
    assert len(read_parquet(path)) == 300


def varint(number: int) -> bytes:
    """As parquet's lists of columns write whole numbers."""
    number, out = number << 1, b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def test_what_pages_say_counts_whatever_the_list_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, size = tmp_path / "rows.parquet", 30 * MB + 12_345
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.table({"task": [b"\0" * size]}), path, **options)
    assert path.stat().st_size < 10_000
    truth = pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    data, said = path.read_bytes(), varint(1 << 20)
    changed = data[:-8].replace(varint(truth), said)  # for the column and its group of rows; the page has its own
    footer = int.from_bytes(data[-8:-4], "little") - len(data[:-8]) + len(changed)
    path.write_bytes(changed + struct.pack("<I", footer) + b"PAR1")
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1 << 20
    monkeypatch.setenv(RAISED, "table_bytes=1e7")

    def refused() -> None:
        with pytest.raises(DataError, match=r"columns of 31,\d{3},\d{3} bytes or more"):
            read_parquet(path)

    assert peak_of(refused) < 8 * MB
    monkeypatch.setenv(RAISED, "")
    assert len(read_parquet(path)["task"][0].as_py()) == size


def test_columns_are_listed_as_arrow_lists_them(tmp_path: Path) -> None:
    rows = 3000
    listed = pa.array([[float(i), 1.0] for i in range(rows)])
    camera = [{"bytes": b"x" * 20, "path": None}] * rows
    table = pa.table({"a.b": listed, "n": np.arange(rows), "t": ["a", "b"] * (rows // 2), "camera": camera})
    for compression, version, group in (("snappy", "1.0", 700), ("zstd", "2.0", 3000), ("none", "1.0", 3000)):
        path = tmp_path / f"{compression}.parquet"
        pq.write_table(table, path, compression=compression, data_page_version=version, row_group_size=group)
        known = pq.read_metadata(path)
        theirs = [known.row_group(g).column(i) for g in range(known.num_row_groups) for i in range(known.num_columns)]
        for mine, other in zip(columns_of(path), theirs, strict=True):
            assert (mine.path, mine.packed) == (other.path_in_schema, other.total_compressed_size)
            assert abs(mine.largest - other.total_uncompressed_size) < 200  # theirs count the heads too
        assert read_parquet(path).equals(table)


def test_a_parquet_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    """Columns are remembered for as long as the file is as it was, and no longer."""
    path = tmp_path / "rows.parquet"
    for name in ("before", "behind"):  # as long as one another, so that the size tells nothing
        pq.write_table(pa.table({name: [1, 2, 3]}), path)
        assert [column.path for column in columns_of(path)] == [name]
        assert columns_of(path) == columns_of(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="does not end like a parquet file"):
        columns_of(path)
