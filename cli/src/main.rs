//! minderctl.

fn main() -> std::process::ExitCode {
    minder_cli::main()
}
