"""Reads the headers of a 64-bit little-endian ELF file, and the list of crates that `cargo auditable` puts into it."""

import json
import struct
import zlib
from collections import namedtuple
from pathlib import Path

Section = namedtuple("Section", "name kind offset size link")

# Section of the list of crates: JSON, compressed with zlib. Other tools also read it: `cargo audit bin`, trivy, syft.
CRATES_SECTION = ".dep-v0"
LARGEST_LIST = 1024 * 1024


class NotElf(Exception):
    """The file is not an ELF file of this kind, or the part that was asked for is missing."""


class Elf:
    """An ELF file in memory."""

    def __init__(self, path):
        self.data = Path(path).read_bytes()
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise NotElf(f"{path} is not a 64-bit little-endian ELF file: was it built for Linux?")
        (self.machine,) = struct.unpack_from("<H", self.data, 18)
        (table,) = struct.unpack_from("<Q", self.data, 40)
        size, count, names = struct.unpack_from("<HHH", self.data, 58)
        headers = [struct.unpack_from("<IIQQQQI", self.data, table + size * i) for i in range(count)]
        names_at = headers[names][4] if headers else 0
        self.sections = [
            Section(self._text_at(names_at + name), kind, offset, length, link)
            for name, kind, _flags, _address, offset, length, link in headers
        ]

    def _text_at(self, start):
        return self.data[start : self.data.index(b"\0", start)].decode()

    def _text(self, strings, at):
        return self._text_at(self.sections[strings].offset + at)

    def needed_libraries(self):
        """The shared libraries that the file is linked to."""
        found = []
        for section in self.sections:
            if section.kind == 6:  # SHT_DYNAMIC
                for at in range(section.offset, section.offset + section.size, 16):
                    tag, value = struct.unpack_from("<qQ", self.data, at)
                    if tag == 1:  # DT_NEEDED
                        found.append(self._text(section.link, value))
        return found

    def needed_versions(self):
        """The symbol versions that the file needs, such as `GLIBC_2.28`."""
        found = set()
        for section in self.sections:
            if section.kind != 0x6FFFFFFE:  # SHT_GNU_verneed
                continue
            library = section.offset
            while True:
                _version, _count, _file, first, following = struct.unpack_from("<HHIII", self.data, library)
                version = library + first
                while True:
                    _hash, _flags, _other, name, after = struct.unpack_from("<IHHII", self.data, version)
                    found.add(self._text(section.link, name))
                    if after == 0:
                        break
                    version += after
                if following == 0:
                    break
                library += following
        return found

    def crates(self):
        """The crates that the file lists as its dependencies: pairs of name and version, without those of the build only."""
        for section in self.sections:
            if section.name == CRATES_SECTION:
                packed = self.data[section.offset : section.offset + section.size]
                text = zlib.decompressobj().decompress(packed, LARGEST_LIST)
                packages = json.loads(text)["packages"]
                return {(each["name"], each["version"]) for each in packages if each.get("kind", "runtime") == "runtime"}
        raise NotElf(f"the binary has no list of its crates (section {CRATES_SECTION}): was it built with `cargo auditable`?")
