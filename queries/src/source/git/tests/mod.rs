//! Repositories made by the program `git`, read by us.

mod checking_out;
mod fixture;
mod hostile;
mod http;
mod resolving;
mod server;
mod submodules;
mod together;
