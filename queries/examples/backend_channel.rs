//! Makes a channel with the build backend of the tests; `examples/backend-channel.sh` calls this.
//!
//! The arguments are the directory of the channel and the program of the backend. The channel has two packages for the
//! platform this runs on: the backend, and the one that says which version of the build protocol it speaks.

use std::error::Error;
use std::path::PathBuf;

use doge_queries::testing::{ChannelBuilder, PackageBuilder};
use rattler_conda_types::Subdir;
use rattler_digest::{Sha256, compute_bytes_digest};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let directory = arguments.next().ok_or("the directory of the channel is missing")?;
    let program = std::fs::read(arguments.next().ok_or("the program of the backend is missing")?)?;
    // Another program is another package, so that nobody who has the old one in a cache takes it for the new one.
    let build = format!("h{}_0", hex::encode(&compute_bytes_digest::<Sha256>(&program)[..4]));

    let subdir = Subdir::current().ok_or("conda has no packages for this platform")?;
    let mut channel = ChannelBuilder::new(directory).with_variants(true, false);
    channel.add(PackageBuilder::new("pixi-build-api-version", "7"))?;
    channel.add(
        PackageBuilder::new("doge-test-backend", env!("CARGO_PKG_VERSION"))
            .build(build, 0)
            .subdir(subdir.as_str())
            .depends(["pixi-build-api-version >=7,<8"])
            .executable("bin/doge-test-backend", program),
    )?;
    for subdir in ["linux-64", "linux-aarch64", "osx-64", "osx-arm64"] {
        channel.subdir(subdir);
    }
    channel.index()?;
    Ok(())
}
