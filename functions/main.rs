//! Every Lambda function, in one binary. The template's `Handler` says which of them a process is; started by hand, its argument does.

use std::process::ExitCode;

fn main() -> ExitCode {
    wharfage::runtime::run(functions::FUNCTIONS)
}
