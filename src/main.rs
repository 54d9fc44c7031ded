fn main() -> std::process::ExitCode {
    axvmm::cli::main()
}
