//! minderctl under the name of the first design note.

fn main() -> std::process::ExitCode {
    minder_cli::main()
}
