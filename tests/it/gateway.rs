//! The gateway from outside: requests on its router, its watches and writes against an API server in the process, and
//! the HTTP server over real sockets.

mod api;
mod fixture;
mod poll;
mod report;
mod server;
mod start;
