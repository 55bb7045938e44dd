//! How records are laid out: compact, little-endian, positional, one version for each kind of record.
//!
//! A record never stands alone: [`crate::codec`] puts a header before it that names the version and proves that the
//! bytes are those which were written for this very key. So a decoder here meets only bytes that an encoder of its
//! own version made, and still trusts none of them: every length is checked.

mod cursor;
mod v1;

pub(crate) use cursor::Cursor;
pub(crate) use v1::{
    VERSION, decode_access, decode_batch, decode_collected, decode_encoding, decode_labels, decode_names, decode_spec,
    decode_stamp, decode_trace, decode_trace_above, encode_access, encode_batch, encode_collected, encode_labels,
    encode_names, encode_spec, encode_stamp, encode_trace,
};
