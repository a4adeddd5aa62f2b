//! The `vivadrop` binary: arguments in, exit code out.

fn main() {}
