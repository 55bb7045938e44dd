//! The seal on every entry: a header that proves the entry whole and its own.
//!
//! redb does not verify checksums when it reads: a flipped bit comes out as a wrong value, a misplaced page as the
//! value of another key. So each entry begins with
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | 2: this codec |
//! | 1 | flags; bit 0: the payload is compressed by zstd, after the length of what it expands to (8 bytes) |
//! | 4 | the version of the record's layout |
//! | 16 | tag: XXH3 (128 bits) of all else, of the table and of the key |
//!
//! The tag covers the payload as it is stored. An entry that does not fit its tag is never looked at further. The tag
//! finds what a disk or a bug does to an entry; whoever can write to the file can write a tag that fits.

use std::borrow::Cow;

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::format::VERSION;

const CODEC: u8 = 2;
const COMPRESSED: u8 = 1;
const TAG: usize = 16;
const HEADER: usize = 6 + TAG;

/// From this size on compressing what is kept pays.
const COMPRESS_FROM: usize = 4096;
const LEVEL: i32 = 1;

/// No entry expands to more than this.
const LARGEST: usize = 256 << 20;

/// Why an entry is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsound {
    /// Shorter than a header.
    Short,
    /// Written by another version.
    OtherVersion,
    /// Not the bytes that were written for this key.
    Tag,
    /// The tag fits, and yet it cannot be expanded or decoded.
    Content,
}

impl Unsound {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Unsound::Short => "it is too short",
            Unsound::OtherVersion => "another version wrote it",
            Unsound::Tag => "its bytes are not those that were written",
            Unsound::Content => "it cannot be decoded",
        }
    }

    /// Whether the file that holds it can still be trusted.
    pub(crate) fn is_damage(self) -> bool {
        !matches!(self, Unsound::OtherVersion)
    }
}

/// Each hash is the seed of the next, so lengths need not be told apart: a text is hashed with its length.
fn tag(table: &str, key: &[u8], head: &[u8], payload: &[u8]) -> [u8; TAG] {
    let seed = xxh3_64_with_seed(table.as_bytes(), 0);
    let seed = xxh3_64_with_seed(key, seed);
    let seed = xxh3_64_with_seed(head, seed);
    xxh3_128_with_seed(payload, seed).to_le_bytes()
}

/// A payload with its header.
pub(crate) fn seal(table: &str, key: &[u8], payload: &[u8]) -> Vec<u8> {
    seal_from(COMPRESS_FROM, table, key, payload)
}

/// A payload with its header, compressed if it is of this size or larger.
pub(crate) fn seal_from(compress_from: usize, table: &str, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut compressed = None;
    if payload.len() >= compress_from {
        // Compressing into memory does not fail; if it does, the payload goes as it is.
        compressed = zstd::bulk::compress(payload, LEVEL).ok().filter(|smaller| smaller.len() + 8 < payload.len());
    }
    let mut sealed = Vec::with_capacity(HEADER + 8 + compressed.as_ref().map_or(payload.len(), Vec::len));
    sealed.push(CODEC);
    sealed.push(if compressed.is_some() { COMPRESSED } else { 0 });
    sealed.extend_from_slice(&VERSION.to_le_bytes());
    sealed.extend_from_slice(&[0; TAG]);
    match &compressed {
        Some(smaller) => {
            sealed.extend_from_slice(&(payload.len() as u64).to_le_bytes());
            sealed.extend_from_slice(smaller);
        }
        None => sealed.extend_from_slice(payload),
    }
    let tag = tag(table, key, &sealed[..HEADER - TAG], &sealed[HEADER..]);
    sealed[HEADER - TAG..HEADER].copy_from_slice(&tag);
    sealed
}

/// The payload of a sealed entry, if it is the one that was sealed for this key.
pub(crate) fn unseal<'a>(table: &str, key: &[u8], sealed: &'a [u8]) -> Result<Cow<'a, [u8]>, Unsound> {
    let (header, payload) = sealed.split_at_checked(HEADER).ok_or(Unsound::Short)?;
    let (head, sealed_tag) = header.split_at(HEADER - TAG);
    if tag(table, key, head, payload) != sealed_tag {
        return Err(Unsound::Tag);
    }
    if head[0] != CODEC || head[2..6] != VERSION.to_le_bytes() {
        return Err(Unsound::OtherVersion);
    }
    if head[1] & COMPRESSED == 0 {
        return Ok(Cow::Borrowed(payload));
    }
    let (length, compressed) = payload.split_first_chunk::<8>().ok_or(Unsound::Content)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| Unsound::Content)?;
    if length > LARGEST {
        return Err(Unsound::Content);
    }
    let expanded = zstd::bulk::decompress(compressed, length).map_err(|_| Unsound::Content)?;
    if expanded.len() == length { Ok(Cow::Owned(expanded)) } else { Err(Unsound::Content) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_other_key_is_noticed() {
        for payload in [Vec::new(), b"short".to_vec(), vec![7; 10_000]] {
            let sealed = seal("table", b"key", &payload);
            assert_eq!(unseal("table", b"key", &sealed).as_deref(), Ok(payload.as_slice()));
            assert_eq!(unseal("table", b"kez", &sealed), Err(Unsound::Tag));
            assert_eq!(unseal("tablf", b"key", &sealed), Err(Unsound::Tag));
            for bit in 0..sealed.len() * 8 {
                let mut damaged = sealed.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(unseal("table", b"key", &damaged), Err(Unsound::Tag), "bit {bit}");
            }
            for length in 0..sealed.len() {
                assert!(unseal("table", b"key", &sealed[..length]).is_err(), "cut to {length}");
            }
        }
    }

    #[test]
    fn what_pays_is_compressed_and_what_does_not_is_not() {
        assert!(seal("t", b"k", &vec![1; 100_000]).len() < 1000);
        let mut noise = Vec::new();
        let mut hash = blake3::hash(b"noise");
        while noise.len() < 10_000 {
            noise.extend_from_slice(hash.as_bytes());
            hash = blake3::hash(hash.as_bytes());
        }
        assert_eq!(seal("t", b"k", &noise).len(), noise.len() + HEADER);
    }
}
