//! The program as its users see it. What ran is asserted, not only what came out.

mod channels;
mod collect;
mod commands;
mod errors;
mod install;
mod lock;
mod prefix;
mod processes;
mod real;
mod site;
