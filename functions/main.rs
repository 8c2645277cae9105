//! Every Lambda function, in one binary. The template's `Handler` selects the function; started by hand, the argument does.

use std::process::ExitCode;

fn main() -> ExitCode {
    wharfage::runtime::run(functions::FUNCTIONS)
}
