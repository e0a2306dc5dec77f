//! What a machine has shown, and who says so.

use domain::{
    id::MachineId,
    machine::{Tier, Verification},
    time::UnixSeconds,
};

use crate::{Connection, StoreError, convert::ts};

/// What a machine has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether its self-test agrees with what is said of it.
    pub verification: Verification,
    /// Why not, for the public.
    pub reason: Option<String>,
    /// Since when.
    pub at: Option<UnixSeconds>,
    /// The operator has seen that it stands in a data centre.
    pub datacenter: bool,
    /// The operator took the tier away: no self-test gives it back.
    pub barred: bool,
    /// What follows from all that.
    pub tier: Tier,
}

/// The longest reason, in characters.
const MAX_REASON: usize = 500;

/// Sets what a machine has shown, with the reason for the public; it is cut to 500 characters.
///
/// # Errors
/// The database's; without a reason `deverified` is refused.
pub async fn set_verification(
    tx: &mut Connection,
    id: MachineId,
    verification: Verification,
    reason: Option<&str>,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let reason: Option<String> = reason.map(|text| text.chars().take(MAX_REASON).collect());
    sqlx::query!(
        "UPDATE machines SET verification = $2, verification_reason = $3, verification_at = $4,
                version = version + 1
         WHERE id = $1",
        id.uuid(),
        verification.as_str(),
        reason,
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes whether the operator has seen that a machine stands in a data centre. False without the machine.
///
/// # Errors
/// The database's.
pub async fn set_datacenter(
    tx: &mut Connection,
    id: MachineId,
    datacenter: bool,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE machines SET datacenter = $2, version = version + 1 WHERE id = $1",
        id.uuid(),
        datacenter
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes a machine's tier away until the operator gives it back (`None`), with a reason for the public. Given back it
/// is unverified until its next self-test. False without the machine.
///
/// # Errors
/// The database's.
pub async fn bar(
    tx: &mut Connection,
    id: MachineId,
    reason: Option<&str>,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let done =
        sqlx::query!("UPDATE machines SET barred = $2 WHERE id = $1", id.uuid(), reason.is_some())
            .execute(&mut *tx)
            .await?;
    if done.rows_affected() != 1 {
        return Ok(false);
    }
    let verification =
        if reason.is_some() { Verification::Deverified } else { Verification::Unverified };
    set_verification(tx, id, verification, reason, now).await?;
    Ok(true)
}
