use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate_worker::App::new("standalone-worker")
        .typed("parcel-quote", standalone_worker::quote)
        .main()
}
