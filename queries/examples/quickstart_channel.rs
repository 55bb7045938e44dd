//! Makes the channel of `examples/quickstart`; `examples/quickstart/make-channel.sh` calls this.
//!
//! The same program writes the same bytes, so the channel can lie in version control.

use std::error::Error;
use std::path::PathBuf;

use doge_queries::testing::{ChannelBuilder, PLACEHOLDER, PackageBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("the directory of the channel is missing")?);
    let mut channel = ChannelBuilder::new(directory).with_variants(true, false);
    let script = format!(
        "#!/bin/sh\n# Says what the package `greeting` has to say, to whoever is named.\n\
         prefix='{PLACEHOLDER}'\nread -r greeting < \"$prefix/share/greeting/greeting.txt\"\n\
         echo \"$greeting, ${{1:-world}}!\"\n"
    );
    channel
        .add(PackageBuilder::new("hello", "1.0").prefixed_text("bin/hello", script.clone()).depends(["greeting"]))?;
    channel.add(
        PackageBuilder::new("hello", "2.0").prefixed_text("bin/hello", script).depends(["greeting >=2", "manners"]),
    )?;
    for (version, text) in [("1.0", "Hi\n"), ("2.0", "Hello\n"), ("2.1", "Hello\n"), ("3.0", "Greetings\n")] {
        channel.add(PackageBuilder::new("greeting", version).file("share/greeting/greeting.txt", text))?;
    }
    let manners = PackageBuilder::new("manners", "1.0").constrains(["greeting <3"]);
    channel.add(manners.file("share/manners/README", "Never greet strangers too solemnly.\n"))?;
    channel.subdir("linux-64");
    channel.index()?;
    Ok(())
}
