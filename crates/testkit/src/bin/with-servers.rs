//! Runs a command beside a PostgreSQL and, if asked, an anvil; ends with the command's status.
//!
//! `with-servers [--data DIR] [--migrations DIR] [--chain] -- COMMAND [ARGUMENT..]`
//!
//! The command finds `DATABASE_URL` and `WEIR_RPC_URL` in its environment. With `--data` the
//! servers keep what they hold there; without, it is thrown away.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};
use testkit::{Anvil, AnvilOptions, Cluster, ClusterOptions, port};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Wish {
    data: Option<PathBuf>,
    migrations: Option<PathBuf>,
    chain: bool,
    command: Vec<OsString>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("with-servers: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<u8, Failure> {
    let wish = read_arguments()?;
    let kept = wish.data.is_some();
    let folder = match &wish.data {
        Some(data) => data.clone(),
        None => env::temp_dir().join(format!("weir-servers-{}", std::process::id())),
    };
    let outcome = serve(&wish, &folder).await;
    if !kept && folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    outcome
}

async fn serve(wish: &Wish, folder: &std::path::Path) -> Result<u8, Failure> {
    fs::create_dir_all(folder)?;
    let data = folder.join("postgres");
    let options = if wish.data.is_some() {
        ClusterOptions::durable(data)
    } else {
        ClusterOptions::throwaway(data)
    };
    let cluster = Cluster::start(options).await?;
    cluster.ensure_database("weir").await?;
    let url = cluster.url("weir");
    if let Some(migrations) = &wish.migrations {
        let mut connection = PgConnection::connect(&url).await?;
        Migrator::new(migrations.as_path()).await?.run(&mut connection).await?;
        connection.close().await?;
    }
    let anvil = match wish.chain {
        true => Some(start_anvil(wish, folder).await?),
        false => None,
    };
    let code = follow(wish, &url, anvil.as_ref().map(Anvil::url)).await;
    if let Some(anvil) = anvil {
        anvil.stop().await?;
    }
    cluster.stop().await?;
    code
}

async fn start_anvil(wish: &Wish, folder: &std::path::Path) -> Result<Anvil, Failure> {
    let state_file = wish.data.is_some().then(|| folder.join("chain.json"));
    Ok(Anvil::start(AnvilOptions {
        port: Some(port::free_port()?),
        state_file,
        log_file: Some(folder.join("anvil.log")),
        block_time: None,
        ..AnvilOptions::default()
    })
    .await?)
}

async fn follow(wish: &Wish, database: &str, chain: Option<&str>) -> Result<u8, Failure> {
    let (program, arguments) = wish.command.split_first().ok_or("no command after --")?;
    let mut command = Command::new(program);
    command.args(arguments).env("DATABASE_URL", database);
    if let Some(chain) = chain {
        command.env("WEIR_RPC_URL", chain);
    }
    let mut child = command.spawn().map_err(|error| format!("cannot run {program:?}: {error}"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn read_arguments() -> Result<Wish, Failure> {
    let mut wish = Wish { data: None, migrations: None, chain: false, command: Vec::new() };
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--data") => wish.data = arguments.next().map(PathBuf::from),
            Some("--migrations") => wish.migrations = arguments.next().map(PathBuf::from),
            Some("--chain") => wish.chain = true,
            Some("--") => wish.command = arguments.by_ref().collect(),
            Some(_) | None => return Err(format!("unknown argument {argument:?}").into()),
        }
    }
    Ok(wish)
}
