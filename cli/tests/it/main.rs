//! The program as its users see it. What ran is asserted, not only what came out.

mod channels;
mod commands;
mod damage;
mod errors;
mod install;
mod lock;
mod points;
mod prefix;
mod processes;
mod real;
mod site;
