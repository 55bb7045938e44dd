//! Archives of all kinds, most of them made byte by byte: no library writes what is tried here.

mod damage;
mod formats;
mod hostile;
mod limits;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use sevenz_rust2::{ArchiveEntry, ArchiveWriter};
use tempfile::TempDir;

use super::*;

const KINDS: [ArchiveKind; 8] = [
    ArchiveKind::Tar(Compression::Plain),
    ArchiveKind::Tar(Compression::Gzip),
    ArchiveKind::Tar(Compression::Bzip2),
    ArchiveKind::Tar(Compression::Xz),
    ArchiveKind::Tar(Compression::Lzma),
    ArchiveKind::Tar(Compression::Zstd),
    ArchiveKind::Zip,
    ArchiveKind::SevenZ,
];
const TAR: ArchiveKind = KINDS[0];

const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const DIRECTORY: u32 = 0o040_755;
const LINK: u32 = 0o120_777;

/// An entry of any archive, whose kind is in its mode as Unix has it.
#[derive(Clone, Debug)]
struct Entry {
    name: Vec<u8>,
    mode: u32,
    /// The content, or the target.
    content: Vec<u8>,
    modified: u64,
}

fn entry(name: impl AsRef<[u8]>, mode: u32, content: impl AsRef<[u8]>) -> Entry {
    let [name, content] = [name.as_ref(), content.as_ref()].map(<[u8]>::to_vec);
    Entry { name, mode, content, modified: 1_000_000_000 }
}

/// A directory to unpack in, with what there is to protect beside the target.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("work")).unwrap();
        Self { directory }
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("work/target")
    }

    fn archive(&self, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join("the-archive");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Unpacks, and looks that nothing is anywhere but in the target.
    #[track_caller]
    fn unpack(&self, kind: ArchiveKind, bytes: &[u8]) -> Result<(), UnpackError> {
        let archive = self.archive(bytes);
        let result = unpack(&archive, kind, &self.target(), &|| false);
        let expected: &[&str] = if result.is_ok() { &["target"] } else { &[] };
        assert_eq!(names(&self.directory.path().join("work")), expected, "{result:?}");
        assert_eq!(names(self.directory.path()), ["the-archive", "work"]);
        assert_eq!(std::fs::read(archive).unwrap(), bytes);
        result
    }
}

#[track_caller]
fn unpacked(kind: ArchiveKind, bytes: &[u8]) -> BTreeMap<String, String> {
    let place = Place::new();
    place.unpack(kind, bytes).unwrap();
    contents(&place.target())
}

/// Why an entry is refused.
#[track_caller]
fn problem(kind: ArchiveKind, bytes: &[u8]) -> EntryProblem {
    match Place::new().unpack(kind, bytes) {
        Err(UnpackError::Refused { problem, .. }) => problem,
        other => panic!("it is not refused, but {other:?}"),
    }
}

fn names(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All that is below a directory: files with their content, `->` and the target of links, `/` for directories.
fn contents(directory: &Path) -> BTreeMap<String, String> {
    let mut contents = BTreeMap::new();
    for name in names(directory) {
        let path = directory.join(&name);
        let metadata = path.symlink_metadata().unwrap();
        let what = if metadata.is_dir() {
            contents.extend(self::contents(&path).into_iter().map(|(below, what)| (format!("{name}/{below}"), what)));
            "/".to_owned()
        } else if metadata.is_symlink() {
            format!("-> {}", std::fs::read_link(path).unwrap().display())
        } else {
            String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
        };
        contents.insert(name, what);
    }
    contents
}

fn tree<const N: usize>(contents: [(&str, &str); N]) -> BTreeMap<String, String> {
    contents.map(|(name, what)| (name.to_owned(), what.to_owned())).into()
}

/// The bytes of an archive.
fn pack(kind: ArchiveKind, entries: &[Entry]) -> Vec<u8> {
    match kind {
        ArchiveKind::Tar(compression) => {
            let mut tar = Tar::default();
            for entry in entries {
                tar = tar.entry(entry);
            }
            compress(compression, &tar.end())
        }
        ArchiveKind::Zip => zip(entries),
        ArchiveKind::SevenZ => seven_z(entries),
    }
}

fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Plain => bytes.to_vec(),
        Compression::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Compression::Xz => {
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Compression::Lzma => {
            let options = lzma_rust2::LzmaOptions::with_preset(1);
            let mut writer = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Compression::Zstd => {
            let mut writer = zstd::Encoder::new(Vec::new(), 1).unwrap();
            writer.include_checksum(true).unwrap();
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
    }
}

/// Makes the sum of the first header of a tar right.
fn correct_sum(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A tar without its end.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(self, entry: &Entry) -> Self {
        let (kind, link, content): (u8, &[u8], &[u8]) = match entry.mode & 0o170_000 {
            0o040_000 => (b'5', b"", b""),
            0o120_000 => (b'2', &entry.content, b""),
            0o020_000 => (b'3', b"", b""),
            0o060_000 => (b'4', b"", b""),
            0o010_000 => (b'6', b"", b""),
            _ => (b'0', b"", &entry.content),
        };
        self.raw(kind, &entry.name, link, entry.mode & 0o7777, entry.modified, content)
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(b'1', name.as_bytes(), target.as_bytes(), 0o644, 0, b"")
    }

    fn raw(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, modified: u64, content: &[u8]) -> Self {
        // A long name is told ahead, as GNU does; this is also how a name comes by a NUL.
        if name.len() > 100 || name.contains(&0) {
            self = self.raw(b'L', b"././@LongLink", b"", 0, 0, name);
        }
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &name[..name.len().min(100)]);
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000\x000000000");
        put(124, format!("{:011o}", content.len()).as_bytes());
        put(136, format!("{modified:011o}").as_bytes());
        put(156, &[kind]);
        put(157, link);
        put(257, b"ustar  ");
        correct_sum(&mut header);
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, kind: u8, key: &str, value: &[u8]) -> Self {
        // The length of a record counts itself.
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
        let record = [format!("{length} {key}=").as_bytes(), value, b"\n"].concat();
        self.raw(kind, b"pax", b"", 0, 0, &record)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    zip_with(entries, 0, 0)
}

fn zip_with(entries: &[Entry], flags: u16, method: u16) -> Vec<u8> {
    let mut zip = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let size = u32::try_from(entry.content.len()).unwrap().to_le_bytes();
        let mut common = Vec::new();
        // Bit 11: the name is in UTF-8.
        for number in [20, flags | 1 << 11, method] {
            common.extend(number.to_le_bytes());
        }
        // 2001-09-09, 01:46:40, which is a billion of seconds.
        common.extend((1 << 11 | 46 << 5 | 20_u16).to_le_bytes());
        common.extend((21 << 9 | 9 << 5 | 9_u16).to_le_bytes());
        common.extend(crc(&entry.content).to_le_bytes());
        common.extend(size);
        common.extend(size);
        common.extend(u16::try_from(entry.name.len()).unwrap().to_le_bytes());
        common.extend([0; 2]);
        let offset = u32::try_from(zip.len()).unwrap();
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(&entry.name);
        zip.extend(&entry.content);
        // Made on Unix.
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&entry.name);
    }
    let [start, length] = [zip.len(), directory.len()].map(|number| u32::try_from(number).unwrap().to_le_bytes());
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    zip.extend(directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    for bytes in [&count[..], &count, &length, &start, &[0; 2]] {
        zip.extend(bytes);
    }
    zip
}

/// A zip of one file, whose size it may be wrong about.
fn zip_of_size(size: u32, content: &str) -> Vec<u8> {
    let mut zip = zip(&[entry("a", FILE, content)]);
    let list = 30 + 1 + content.len();
    for at in [22, list + 24] {
        zip[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }
    zip
}

fn seven_z(entries: &[Entry]) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
    for entry in entries {
        let is_directory = entry.mode & 0o170_000 == 0o040_000;
        let listed = ArchiveEntry {
            name: String::from_utf8(entry.name.clone()).unwrap(),
            is_directory,
            has_windows_attributes: true,
            windows_attributes: entry.mode << 16 | 0x8000,
            has_last_modified_date: true,
            last_modified_date: (std::time::UNIX_EPOCH + std::time::Duration::from_secs(entry.modified))
                .try_into()
                .unwrap(),
            ..ArchiveEntry::default()
        };
        writer.push_archive_entry(listed, (!is_directory).then_some(&entry.content[..])).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// How a 7z says that its content is as it is.
const COPY: &[u8] = &[1, 0];

/// A 7z of one block with the content of two files, `a` and `b`, and between them in its list a directory, `d`.
///
/// How the block is packed can be chosen, and what else the list tells.
fn raw_seven_z(coder: &[u8], properties: &[u8]) -> Vec<u8> {
    let mut header = vec![1, 4, 6, 0, 1, 9, 7, 0];
    header.extend([7, 11, 1, 0, 1]);
    header.extend(coder);
    header.extend([12, 7, 0]);
    header.extend([8, 13, 2, 9, 3, 10, 1]);
    for content in ["one", "two!"] {
        header.extend(crc(content.as_bytes()).to_le_bytes());
    }
    header.extend([0, 0, 5, 3, 14, 1, 0b0100_0000]);
    header.extend(properties);
    let names: Vec<u8> = "a\0d\0b\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    header.extend([17, u8::try_from(names.len()).unwrap() + 1, 0]);
    header.extend(names);
    header.extend([0, 0]);
    let mut archive = [b"7z\xbc\xaf\x27\x1c\0\x04", &[0; 24][..], b"onetwo!", &header].concat();
    archive[12..20].copy_from_slice(&7_u64.to_le_bytes());
    archive[20..28].copy_from_slice(&(header.len() as u64).to_le_bytes());
    correct_sums(&mut archive, 39);
    archive
}

/// Makes the sums of a 7z right, whose list begins there.
fn correct_sums(archive: &mut [u8], list: usize) {
    let sum = crc(&archive[list..]).to_le_bytes();
    archive[28..32].copy_from_slice(&sum);
    let sum = crc(&archive[12..32]).to_le_bytes();
    archive[8..12].copy_from_slice(&sum);
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
