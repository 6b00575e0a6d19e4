//! Moves one file to or from the storage: what the naive side does with its archives, where the storage is no folder.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mayfly_storage::{Body, Key, Precondition, StorageUrl};

use crate::args::StorageArgs;

/// One file, and one object of the storage.
#[derive(Debug, Args)]
pub(crate) struct ObjectArgs {
    /// The storage.
    #[arg(long, env = "STORAGE_URL")]
    storage_url: StorageUrl,
    #[command(flatten)]
    storage: StorageArgs,
    /// What to do.
    #[arg(value_enum)]
    direction: Direction,
    /// The object's key.
    key: Key,
    /// The file.
    file: PathBuf,
}

/// Which way an object goes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Direction {
    /// From the file into the storage.
    Put,
    /// From the storage into the file.
    Get,
}

pub(crate) async fn command(args: ObjectArgs) -> anyhow::Result<()> {
    let storage = mayfly_storage::open(&args.storage_url, &args.storage.options()).await?;
    match args.direction {
        Direction::Put => {
            let body = Body::File(args.file);
            storage.put(&args.key, body, Precondition::None).await?;
        }
        Direction::Get => {
            storage.download(&args.key, &args.file, u64::MAX).await?;
        }
    }
    Ok(())
}
