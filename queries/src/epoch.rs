//! The libraries that decide results, in the versions that this program is linked with. See `build.rs`.

include!(concat!(env!("OUT_DIR"), "/libraries.rs"));
