"""Hostile sources, built in code: each kind makes its files in an empty directory and says what must come of them."""

import gzip
import io
import os
import pickle
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from support.data import encoded, fill, noise, png, pngs, zipped

GOOD = 10  # whole images beside each hostile one
CANARY = "canary"  # what code that is run would leave in the directory
LIMIT = 89_478_485  # Pillow's


@dataclass(frozen=True)
class Kind:
    """`outcome` is `fine`, `skipped` (the file `hostile*` is, `said` being its reason) or `error` (`said` is of it)."""

    build: Callable[[Path], Path]
    outcome: str
    said: str = ""
    dangerous: bool = False  # to the memory, so it is measured


def among(files: dict[str, bytes]) -> Callable[[Path], Path]:
    """A folder of good images and these."""
    return lambda w: fill(w / "data", pngs(GOOD) | files)


def one(data: bytes, name: str = "hostile.png") -> Callable[[Path], Path]:
    return among({name: data})


def archive(files: dict[str, bytes]) -> Callable[[Path], Path]:
    return lambda w: zipped(w / "data.zip", pngs(GOOD) | files)


def alone(name: str, data: bytes) -> Callable[[Path], Path]:
    return lambda w: fill(w, {name: data}) / name


def with_link(target: str) -> Callable[[Path], Path]:
    def build(w: Path) -> Path:
        folder = fill(w / "data", pngs(GOOD))
        (folder / "hostile.png").symlink_to(target)
        return folder

    return build


def with_pipe(w: Path) -> Path:
    folder = fill(w / "data", pngs(GOOD))
    os.mkfifo(folder / "hostile.png")
    return folder


def with_sparse(w: Path) -> Path:
    folder = fill(w / "data", pngs(GOOD))
    with open(folder / "hostile.png", "wb") as file:
        file.truncate(8 * 2**30)
    return folder


def colour(kind: str, **options: object) -> bytes:
    return encoded(Image.fromarray(noise(40, 40, 3)), kind, **options)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes, at: float = 0.5) -> bytes:
    start = int(len(data) * at)
    return data[:start] + bytes(255 - byte for byte in data[start : start + 20]) + data[start + 20 :]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, colour_type: int, body: bytes, before: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    end = chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + end


def zeros(count: int) -> bytes:
    """So many zero bytes, deflated, without ever having them."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(min(2**20, count - start))) for start in range(0, count, 2**20)]
    return b"".join([*parts, packer.flush()])


def large_rgba(w: Path) -> Path:
    """The most pixels that are read, all transparent."""
    side = int(LIMIT**0.5)
    return one(raw_png(side, side, 6, zeros(side * (4 * side + 1))))(w)


def large_webp(w: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return one(encoded(Image.new("L", (9000, 9000)).convert("RGB"), "WEBP", quality=1, method=0), "hostile.webp")(w)


def large_sixteen_bits(w: Path) -> Path:
    side = int(LIMIT**0.5)
    data = raw_png(side, side, 0, zeros(side * (2 * side + 1)))
    header = struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)
    return one(data[:8] + chunk(b"IHDR", header) + data[8 + 25 :])(w)


def text_bomb() -> bytes:
    pixels = zlib.compress(bytes(8 * 25))
    return raw_png(8, 8, 2, pixels, before=chunk(b"zTXt", b"Comment\0\0" + zeros(2**28)))


def tiff(width: int, height: int, following: int = 0) -> bytes:
    """One strip of grey that is not there, and a link to the next directory."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
               (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)]  # fmt: skip
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIIIII", 100, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(46)


class _Bomb:
    """What a pickle would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def objects(name: str) -> Callable[[Path], Path]:
    def build(w: Path) -> Path:
        array = np.array([_Bomb(w / CANARY), None], dtype=object)
        if name.endswith(".npz"):
            np.savez(w / name, images=array)
        elif name == "bare.npy":
            (w / name).write_bytes(pickle.dumps(_Bomb(w / CANARY)))
        else:
            np.save(w / name, array, allow_pickle=True)
        return w / name

    return build


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


LYING = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000, 3), }", bytes(1000))
FEW = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (10, 8, 8), }", noise(10, 8, 8).tobytes()[:-5])


def running_npy(w: Path) -> Path:
    code = f"__import__('os').mkdir({str(w / CANARY)!r})"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {code}, }}"
    return alone("code.npy", npy(header))(w)


def npz_bomb(w: Path) -> Path:
    header = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3000, 1000, 1000), }")
    packed = zipfile.ZipFile(w / "data.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed as file, file.open("images.npy", "w", force_zip64=True) as entry:
        entry.write(header)
        for _ in range(540):
            entry.write(bytes(2**20))
    return w / "data.npz"


def idx(*shape: int, data: bytes = b"") -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + data


def idx_bomb(w: Path) -> Path:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        file.write(idx(540, 1024, 1024))
        for _ in range(540):
            file.write(bytes(2**20))
    return alone("data-idx3-ubyte.gz", buffer.getvalue())(w)


def zip_bomb(megabytes: int) -> Callable[[Path], Path]:
    def build(w: Path) -> Path:
        path = zipped(w / "data.zip", pngs(GOOD))
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for number in range(2):
                with file.open(f"hostile{number}.png", "w") as entry:
                    for _ in range(megabytes):
                        entry.write(bytes(2**20))
        return path

    return build


def patched_zip(change: Callable[[bytearray, int], None]) -> Callable[[Path], Path]:
    """A zip in which the central directory's record of `hostile.png` is changed."""

    def build(w: Path) -> Path:
        path = zipped(w / "data.zip", pngs(GOOD) | {"hostile.png": png(noise(8, 8, 3))})
        data = bytearray(path.read_bytes())
        change(data, data.rindex(b"hostile.png") - 46)
        path.write_bytes(data)
        return path

    return build


def encrypted(data: bytearray, record: int) -> None:
    data[record + 8] |= 1


def exotic(data: bytearray, record: int) -> None:
    data[record + 10 : record + 12] = struct.pack("<H", 97)


def shorter(data: bytearray, record: int) -> None:
    data[record + 24 : record + 28] = struct.pack("<I", 60)


def overlapping(data: bytearray, record: int) -> None:
    data[record + 42 : record + 46] = struct.pack("<I", 0)


def link_in_zip(w: Path) -> Path:
    path = zipped(w / "data.zip", pngs(GOOD))
    info = zipfile.ZipInfo("hostile.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(info, "/etc/passwd")
    return path


def _frames(kind: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), shade) for shade in ("red", "blue", "green")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def _palette() -> bytes:
    image = Image.fromarray(noise(8, 8) % 4).convert("P")
    return encoded(image, "PNG", transparency=bytes([0, 128, 255, 7]))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(canary) (w) file closefile\n"
SVG = b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg">&x;</svg>'
NAN = encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
NO_IMAGE, EMPTY = "no image of a known format", "an empty file"
KINDS = {
    # images that are not whole
    "truncated PNG": Kind(one(cut(colour("PNG"))), "skipped", "truncated"),
    "truncated JPEG": Kind(one(cut(colour("JPEG")), "hostile.jpg"), "skipped", "truncated"),
    "truncated GIF": Kind(one(cut(colour("GIF")), "hostile.gif"), "skipped", "truncated"),
    "truncated WebP": Kind(one(cut(colour("WEBP")), "hostile.webp"), "skipped"),
    "truncated TIFF": Kind(one(cut(colour("TIFF")), "hostile.tif"), "skipped"),
    "corrupt PNG": Kind(one(flipped(colour("PNG"))), "skipped"),
    "corrupt PNG header": Kind(one(flipped(colour("PNG"), 0.002)), "skipped"),
    "corrupt JPEG header": Kind(one(flipped(colour("JPEG"), 0.05), "hostile.jpg"), "skipped"),
    "corrupt GIF header": Kind(one(b"GIF89a" + bytes(30), "hostile.gif"), "skipped"),
    "corrupt WebP": Kind(one(flipped(colour("WEBP"), 0.02), "hostile.webp"), "skipped"),
    "corrupt TIFF": Kind(one(b"II*\0\xff\xff\xff\x7f" + bytes(99), "hostile.tif"), "skipped"),
    "TIFF directories in a circle": Kind(one(tiff(8, 8, 8), "hostile.tif"), "fine"),
    "empty file": Kind(one(b""), "skipped", EMPTY),
    "text": Kind(one(b"Dear diary, this is no image.\n"), "skipped", NO_IMAGE),
    "PNG of no pixels": Kind(one(raw_png(0, 0, 2, b"")), "skipped"),
    "TIFF of NaN": Kind(one(NAN, "hostile.tif"), "skipped", "NaN or infinite"),
    # programs
    "EPS named PNG": Kind(one(EPS), "skipped", NO_IMAGE),
    "PDF named JPEG": Kind(one(b"%PDF-1.7\n" + bytes(99), "hostile.jpg"), "skipped", NO_IMAGE),
    "SVG with an entity": Kind(one(SVG), "skipped", NO_IMAGE),
    "pickle named PNG": Kind(lambda w: one(pickle.dumps(_Bomb(w / CANARY)))(w), "skipped", NO_IMAGE),
    "pickle named npy": Kind(objects("bare.npy"), "error", "holds Python objects"),
    "npy of objects": Kind(objects("data.npy"), "error", "holds Python objects"),
    "npz of objects": Kind(objects("data.npz"), "error", "holds Python objects"),
    "npy whose header is code": Kind(running_npy, "error", "cannot read"),
    # bombs
    "PNG of the most pixels": Kind(large_rgba, "fine", dangerous=True),
    "16-bit PNG of the most pixels": Kind(large_sixteen_bits, "fine", dangerous=True),
    "PNG of 4 billion pixels": Kind(one(raw_png(65535, 65535, 2, zeros(9999))), "skipped", "too many", True),
    "GIF of 4 billion pixels": Kind(
        one(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\1\0;", "hostile.gif"),
        "skipped", "too many", True),
    "TIFF of 4 billion pixels": Kind(one(tiff(65535, 65535), "hostile.tif"), "skipped", "too many", True),
    "BMP of 4 billion pixels": Kind(one(bmp(65535, 65535), "hostile.bmp"), "skipped", "too many", True),
    "WebP of 81 million pixels": Kind(large_webp, "skipped", "too many", True),
    "PNG with a text bomb": Kind(one(text_bomb()), "skipped", dangerous=True),
    "file of 8 GB": Kind(with_sparse, "skipped", "bytes are too many", True),
    "zip bombs of 260 MiB": Kind(zip_bomb(260), "skipped", "bytes are too many", True),
    "zip bombs of 250 MiB": Kind(zip_bomb(250), "skipped", NO_IMAGE, True),
    "npz bomb": Kind(npz_bomb, "error", "would unpack from", True),
    "gzip bomb of an IDX file": Kind(idx_bomb, "error", "would unpack from", True),
    # zips
    "absolute name in a zip": Kind(archive({"/hostile.png": png(noise(8, 8, 3))}), "skipped", "unsafe path"),
    ".. in a zip": Kind(archive({"../../hostile.png": png(noise(8, 8, 3))}), "skipped", "unsafe path"),
    "backslashes in a zip": Kind(archive({"a\\..\\hostile.png": png(noise(8, 8, 3))}), "skipped", "unsafe path"),
    "drive in a zip": Kind(archive({"C:\\hostile.png": png(noise(8, 8, 3))}), "skipped", "unsafe path"),
    "encrypted entry": Kind(patched_zip(encrypted), "skipped", "encrypted"),
    "entry of an unknown compression": Kind(patched_zip(exotic), "skipped", "compression"),
    "entry that is longer than it says": Kind(patched_zip(shorter), "skipped"),
    "overlapping entries": Kind(patched_zip(overlapping), "skipped"),
    "link in a zip": Kind(link_in_zip, "skipped", NO_IMAGE),
    "truncated zip": Kind(lambda w: alone("cut.zip", cut(archive({})(w).read_bytes()))(w), "error", "cannot read"),
    "zip in a zip": Kind(lambda w: zipped(w / "outer.zip", {"a.zip": archive({})(w).read_bytes()}), "error",
                         "no images"),
    # arrays
    "npy whose header lies": Kind(alone("data.npy", LYING), "error", "cannot read", True),
    "npz whose header lies": Kind(lambda w: zipped(w / "data.npz", {"images.npy": LYING}), "error",
                                  "cannot read", True),
    "truncated npy": Kind(alone("data.npy", FEW), "error", "cannot read"),
    "npz that is no zip": Kind(alone("data.npz", b"rubbish"), "error", "data.npz"),
    "IDX whose header lies": Kind(alone("a-idx3-ubyte", idx(2**32 - 1, 9999, 9999, data=bytes(99))), "error",
                                  "its header says", True),
    "gzipped IDX whose header lies": Kind(alone("a-idx3-ubyte.gz", gzip.compress(idx(2**31, 28, 28, data=bytes(99)))),
                                          "error", "its header says", True),
    "TIFF whose only page leads to itself": Kind(alone("data.tif", tiff(8, 8, 8)), "error", "is a single image"),
    "TIFF of 4 billion pixels and a directory": Kind(
        alone("data.tif", tiff(65535, 65535, 122) + tiff(65535, 65535)[8:]), "error", "too many", True),
    "truncated IDX": Kind(alone("a-idx3-ubyte", idx(10, 8, 8, data=bytes(600))), "error", "its header says"),
    "truncated gzip": Kind(alone("a-idx3-ubyte.gz", cut(gzip.compress(idx(9, 8, 8, data=noise(9, 64).tobytes())))),
                           "error", "cannot read"),
    # files that are none
    "link into nowhere": Kind(with_link("nowhere.png"), "skipped", "No such file"),
    "link to itself": Kind(with_link("hostile.png"), "skipped", "symbolic links"),
    "link to an endless device": Kind(with_link("/dev/zero"), "skipped", "not a file"),
    "named pipe": Kind(with_pipe, "skipped", "not a file"),
    # odd, and whole
    "one pixel": Kind(one(png(noise(1, 1, 3))), "fine"),
    "30,000 x 10": Kind(one(png(noise(10, 30000, 3))), "fine"),
    "16 bits": Kind(one(encoded(Image.fromarray(noise(8, 8).astype(np.uint16) * 257), "PNG")), "fine"),
    "CMYK": Kind(one(encoded(Image.new("CMYK", (8, 8), (9, 99, 200, 0)), "JPEG"), "hostile.jpg"), "fine"),
    "palette with transparency": Kind(one(_palette()), "fine"),
    "animated GIF": Kind(one(_frames("GIF"), "hostile.gif"), "fine"),
    "animated PNG": Kind(one(_frames("PNG")), "fine"),
    "damaged EXIF": Kind(one(colour("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), "hostile.jpg"), "fine"),
    "unicode name": Kind(one(png(noise(8, 8, 3)), "hostile \u4f60\u597d \U0001f600.png"), "fine"),
    "new line in a name": Kind(one(b"", "hostile\nerror: x.png"), "skipped", EMPTY),
    "terminal sequence in a name": Kind(one(b"", "hostile\x1b[2J\x1b]0;x\x07.png"), "skipped", EMPTY),
    "turned direction in a name": Kind(one(b"", "hostile\u202egnp.png"), "skipped", EMPTY),
    "terminal sequence in a zip's name": Kind(archive({"hostile\x1b[31m.png": b""}), "skipped", EMPTY),
    "name of no encoding": Kind(one(b"", os.fsdecode(b"hostile\xff\xfe.png")), "skipped", EMPTY),
}  # fmt: skip
if sys.platform == "linux":
    KINDS["file that cannot be read"] = Kind(with_link("/proc/self/mem"), "skipped", "Input/output error")
