//! The runner as people start it: its command line, its clock, and how it stops.

mod clock;
mod command_line;
mod crowds;
mod first_starts;
mod runner;
mod start_rgw;
mod stopping;
