//! `mayfly bench`: measures Mayfly against what one would use instead, in alternation in one run.

mod figures;
mod gateway;
mod git;
mod made;
mod measure;
mod naive;
mod object;
mod ours;
mod place;
mod process;
mod report;
mod run;
mod sessions;
mod text_files;

use clap::{Args, Subcommand};

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Jobs of one session, against the git CLI and an archive of the whole workspace.
    Sessions(Box<sessions::SessionsArgs>),
    /// Our gateway, against nginx and HAProxy before the same stub workers.
    Gateway(Box<gateway::GatewayBenchArgs>),
    /// Host stub workers.
    #[command(hide = true)]
    Stubs(gateway::StubsArgs),
    /// Run one command, and print what it used, as JSON, on standard error's last line.
    #[command(hide = true)]
    Measure(measure::MeasureArgs),
    /// Move a file to or from a storage.
    #[command(hide = true)]
    Object(object::ObjectArgs),
}

pub(crate) async fn command(args: BenchArgs) -> anyhow::Result<()> {
    match args.what {
        What::Sessions(args) => sessions::command(*args).await,
        What::Gateway(args) => gateway::command(*args).await,
        What::Stubs(args) => gateway::stubs_command(args).await,
        What::Measure(args) => measure::command(&args),
        What::Object(args) => object::command(args).await,
    }
}
