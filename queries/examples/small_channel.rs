//! Writes the small channel that the quickstart installs from: `small_channel DIRECTORY`.
//!
//! The packages hold shell scripts and text only, so nothing is needed to run them. The same bytes come out every time.

use doge_queries::testing::{ArchiveKind, ChannelBuilder, PackageBuilder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: small_channel DIRECTORY")?;
    let directory = std::path::absolute(directory)?;
    let mut channel = ChannelBuilder::new(&directory).with_shards(true);
    for (version, greeting) in [("1.0", "Hello"), ("1.1", "Hello there")] {
        channel.add(
            PackageBuilder::new("greeter", version).timestamp(1_700_000_000_000).depends(["words >=2"]).prefixed_text(
                "bin/greet",
                format!(
                    "#!/bin/sh\nprefix=\"{}\"\nprintf '%s, ' '{greeting}'\ncat \"$prefix/share/words/world.txt\"\n",
                    doge_queries::testing::channel::PLACEHOLDER
                ),
            ),
        )?;
    }
    for version in ["1.0", "2.0", "3.0"] {
        channel.add(
            PackageBuilder::new("words", version)
                .timestamp(1_700_000_000_000)
                .file("share/words/world.txt", format!("world {version}!\n")),
        )?;
    }
    channel.add(
        PackageBuilder::new("wordlist", "0.1")
            .archive(ArchiveKind::TarBz2)
            .timestamp(1_700_000_000_000)
            .depends(["words"])
            .constrains(["greeter >=1.1"])
            .symlink("share/wordlist/current.txt", "../words/world.txt"),
    )?;
    channel.index()?;
    Ok(())
}
