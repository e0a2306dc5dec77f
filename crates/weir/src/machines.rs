//! `weir machines`: the operator's word on what machines have shown. It is public, with its reason.

use clap::Subcommand;
use domain::id::MachineId;
use store::{
    Store, StoreError, TxError,
    machines::{self, Machine, Release},
};

use crate::{config::Config, failure::Failure, serve::open_store};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Print what a machine has shown
    Show {
        /// Its id
        id: String,
    },
    /// Take a machine's tier away, until you give it back
    Deverify {
        /// Its id
        id: String,
        /// Why; the public reads it
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Give a machine the chance back to show itself: it is unverified until its next self-test
    Readmit {
        /// Its id
        id: String,
    },
    /// Take a GPU from the machine that somebody registered it with, and retire that machine: you have seen whose it is
    ReleaseGpu {
        /// The vendor's UUID of the GPU
        uuid: String,
        /// Why; the public reads it
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Note that you have seen proof that a machine stands in a data centre
    Datacenter {
        /// Its id
        id: String,
        /// Note that it does not
        #[arg(long)]
        off: bool,
    },
}

/// Does what the operator says, and prints what the machine is after it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    let store = open_store(&Config::from_env()?).await?;
    println!("{}", line(&perform(&store, verb).await?));
    Ok(())
}

async fn perform(store: &Store, verb: Verb) -> Result<Machine, Failure> {
    let now = store.now().seconds();
    let (id, change) = match verb {
        Verb::Show { id } => (id, Change::None),
        Verb::Readmit { id } => (id, Change::Bar(None)),
        Verb::Datacenter { id, off } => (id, Change::Datacenter(!off)),
        Verb::Deverify { id, reason } => (id, Change::Bar(Some(public(&reason)?))),
        Verb::ReleaseGpu { uuid, reason } => return release(store, uuid, public(&reason)?).await,
    };
    let id: MachineId = id.parse().map_err(Failure::during("the machine's id"))?;
    let missing = || Failure::new(format!("there is no machine {id}"));
    let done = store.write("operator.machine", move |tx| {
        let change = change.clone();
        Box::pin(async move {
            let found = match change {
                Change::None => true,
                Change::Bar(reason) => machines::bar(tx, id, reason.as_deref(), now).await?,
                Change::Datacenter(stands) => machines::set_datacenter(tx, id, stands).await?,
            };
            let machine = machines::get(tx, id).await?;
            Ok::<_, TxError<Failure>>(machine.filter(|_| found))
        })
    });
    done.await.map_err(failed)?.ok_or_else(missing)
}

fn failed(error: TxError<Failure>) -> Failure {
    match error {
        TxError::Store(error) => Failure::new(format!("the database: {error}")),
        TxError::Refused(failure) => failure,
    }
}

/// A reason that the public can read.
fn public(reason: &str) -> Result<String, Failure> {
    let reason = reason.trim().to_owned();
    if reason.is_empty() || reason.chars().count() > 500 {
        return Err(Failure::new("--reason says why, to the public, in 1 to 500 characters"));
    }
    Ok(reason)
}

/// Retires the machine that has a GPU, and returns it.
async fn release(store: &Store, uuid: String, reason: String) -> Result<Machine, Failure> {
    let now = store.now().seconds();
    let done = store.write("operator.release_gpu", move |tx| {
        let (uuid, reason) = (uuid.clone(), reason.clone());
        Box::pin(async move {
            match machines::release_gpu(tx, &uuid, &reason, now).await? {
                Release::Retired(id) => {
                    let machine = machines::get(tx, id).await?;
                    machine.ok_or(StoreError::Missing("the machine").into())
                }
                Release::Runs(id) => {
                    let text = format!(
                        "something runs on machine {id}, which has it: see that it ends first"
                    );
                    Err(TxError::Refused(Failure::new(text)))
                }
                Release::Nobody => {
                    let text = format!("no machine in the market has a GPU {uuid}");
                    Err(TxError::Refused(Failure::new(text)))
                }
            }
        })
    });
    done.await.map_err(failed)
}

#[derive(Clone)]
enum Change {
    None,
    Bar(Option<String>),
    Datacenter(bool),
}

fn line(machine: &Machine) -> String {
    let standing = &machine.standing;
    let barred = if standing.barred { ", barred" } else { "" };
    let place = if standing.datacenter { ", in a data centre" } else { "" };
    let reason = standing.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!(
        "{}  {}  {}{barred}{place}  {}{reason}",
        machine.id, standing.tier, standing.verification, machine.service
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy::primitives::Address;
    use domain::{
        id::{AccountId, GpuId},
        machine::{Service, Tier, Verification},
        time::{UnixMillis, UnixSeconds},
    };
    use store::{
        accounts,
        machines::{EnrollToken, Gpu, MachineSpec, NewMachine},
    };
    use testkit::{ManualClock, TestDb};

    use super::*;

    async fn market() -> (Store, MachineId) {
        let url = TestDb::new(Some(&store::MIGRATOR)).await.unwrap().url;
        let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
        let policy = Config::from_env().unwrap().policy;
        let store = Store::connect(&url, 2, clock, policy).await.unwrap();
        let now = store.now().seconds();
        let id = MachineId::from_uuid(uuid::Uuid::now_v7());
        store
            .write("machine", move |tx| {
                Box::pin(async move {
                    let new = machine(tx, id, 1, now).await?;
                    machines::create(tx, &new).await?;
                    machines::set_verification(tx, id, Verification::Verified, None, now).await?;
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
        (store, id)
    }

    /// A machine with one GPU, always the same, of the account of a wallet.
    async fn machine(
        tx: &mut store::Connection,
        id: MachineId,
        wallet: u8,
        now: UnixSeconds,
    ) -> Result<NewMachine, StoreError> {
        let uuid = uuid::Uuid::now_v7;
        let account = AccountId::from_uuid(uuid());
        let wallet = Address::repeat_byte(wallet);
        let account = accounts::find_or_create(tx, account, wallet, now).await?.id;
        let gpu = Gpu {
            id: GpuId::from_uuid(uuid()),
            vendor_uuid: "GPU-00000000".into(),
            model: "rtx-4090".into(),
        };
        let spec = MachineSpec {
            name: "m".into(),
            region: "de".into(),
            cpu_cores: 1,
            ram_gb: 1,
            disk_gb: 1,
        };
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(id.uuid().as_bytes());
        let enroll = EnrollToken { hash, expires_at: now };
        Ok(NewMachine { id, account, spec, gpus: vec![gpu], enroll, now })
    }

    #[tokio::test]
    async fn a_tier_is_given_and_taken_with_a_public_reason() {
        let (store, machine) = market().await;
        let id = machine.to_string();
        let seen = perform(&store, Verb::Datacenter { id: id.clone(), off: false }).await.unwrap();
        assert_eq!(seen.standing.tier, Tier::Datacenter);
        let refused = Verb::Deverify { id: id.clone(), reason: " ".into() };
        let refused = perform(&store, refused).await.unwrap_err().to_string();
        assert!(refused.contains("--reason says why"), "{refused}");
        let taken = Verb::Deverify { id: id.clone(), reason: "renters see another GPU".into() };
        let taken = perform(&store, taken).await.unwrap();
        assert_eq!((taken.standing.tier, taken.standing.barred), (Tier::Unverified, true));
        let said = line(&taken);
        for part in
            ["unverified  deverified, barred, in a data centre  open", ": renters see another"]
        {
            assert!(said.contains(part), "{said}");
        }
        let back = perform(&store, Verb::Readmit { id: id.clone() }).await.unwrap();
        assert_eq!(
            (back.standing.verification, back.standing.barred),
            (Verification::Unverified, false)
        );
        let none = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned();
        let missing = perform(&store, Verb::Show { id: none }).await.unwrap_err().to_string();
        assert!(missing.contains("there is no machine"), "{missing}");
    }

    #[tokio::test]
    async fn a_gpu_that_somebody_else_registered_is_released_with_a_public_reason() {
        let (store, squatter) = market().await;
        let release = |uuid: &str, reason: &str| {
            let (uuid, reason) = (uuid.to_owned(), reason.to_owned());
            perform(&store, Verb::ReleaseGpu { uuid, reason })
        };
        let refused = release("GPU-00000001", "x").await.unwrap_err().to_string();
        assert!(refused.contains("no machine in the market has a GPU GPU-00000001"), "{refused}");
        let refused = release("GPU-00000000", "").await.unwrap_err().to_string();
        assert!(refused.contains("--reason says why"), "{refused}");
        // however it is spelled
        let taken = release("gpu-00000000", "its owner showed the card").await.unwrap();
        assert_eq!((taken.id, taken.service), (squatter, Service::Retired));
        assert!(line(&taken).ends_with("retired: its owner showed the card"), "{}", line(&taken));
        let again = release("GPU-00000000", "x").await.unwrap_err().to_string();
        assert!(again.contains("no machine in the market"), "{again}");
        // the owner's machine begins with a clean sheet
        let now = store.now().seconds();
        let machine = store
            .write("machine", move |tx| {
                Box::pin(async move {
                    let new =
                        machine(tx, MachineId::from_uuid(uuid::Uuid::now_v7()), 2, now).await?;
                    machines::create(tx, &new).await?;
                    let made = machines::get(tx, new.id).await?;
                    Ok::<_, TxError<StoreError>>(made)
                })
            })
            .await
            .unwrap()
            .unwrap();
        assert_eq!((machine.standing.barred, machine.standing.reason), (false, None));
        assert_eq!(machine.gpus[0].vendor_uuid, "GPU-00000000");
    }
}
