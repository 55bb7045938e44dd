//! The program as its users see it. What ran is asserted, not only what came out.

mod channels;
mod collect;
mod commands;
#[cfg(target_os = "linux")]
mod crowd;
mod damage;
mod errors;
mod explaining;
mod install;
#[cfg(target_os = "linux")]
mod interposed;
#[cfg(target_os = "linux")]
mod interrupted;
#[cfg(target_os = "linux")]
mod limits;
mod lock;
#[cfg(target_os = "linux")]
mod output;
mod parity;
mod pictures;
mod points;
mod prefix;
mod processes;
#[cfg(target_os = "linux")]
mod races;
mod real;
mod sharing;
mod site;
#[cfg(unix)]
mod sources;
