//! News of accounts, for the streams of accounts: each is woken by what happens to its own. Most is announced. What is not,
//! as bookings are not, is found by one look per second for all accounts that somebody follows, and none if nobody does.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::id::AccountId;
use store::{
    Store, StoreError,
    account_events::{self, Snapshot},
};
use tokio::sync::{Notify, watch};

/// What was not announced is told this much later at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The accounts that are followed in this process.
#[derive(Default)]
pub(super) struct Accounts {
    followed: Mutex<HashMap<AccountId, watch::Sender<()>>>,
    opened: Notify,
}

/// What one stream hears of its account.
pub(crate) struct AccountNews {
    account: AccountId,
    news: watch::Receiver<()>,
    accounts: Arc<Accounts>,
}

/// Up to where the looks have seen.
#[derive(Default)]
struct Seen {
    accounts: HashSet<AccountId>,
    snapshot: Snapshot,
}

impl Accounts {
    /// Hears what happens to an account, from now on.
    pub(super) fn follow(self: &Arc<Self>, account: AccountId) -> AccountNews {
        let news =
            self.followed().entry(account).or_insert_with(|| watch::channel(()).0).subscribe();
        self.opened.notify_one();
        AccountNews { account, news, accounts: self.clone() }
    }

    /// Something has happened to this account.
    pub(super) fn tell(&self, account: AccountId) {
        if let Some(streams) = self.followed().get(&account) {
            streams.send_replace(());
        }
    }

    /// Something may have happened to any.
    pub(super) fn tell_all(&self) {
        for streams in self.followed().values() {
            streams.send_replace(());
        }
    }

    /// Looks for what is not announced, for as long as somebody listens.
    pub(super) async fn look_for_ever(&self, store: &Store) {
        let mut seen = Seen::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let open: HashSet<AccountId> = self.followed().keys().copied().collect();
            if open.is_empty() {
                seen.accounts.clear();
                self.opened.notified().await;
            } else if let Err(error) = self.look(store, &mut seen, open).await {
                tracing::warn!(%error, "news of accounts are not looked for; trying again");
            }
        }
    }

    async fn look(
        &self,
        store: &Store,
        seen: &mut Seen,
        open: HashSet<AccountId>,
    ) -> Result<(), StoreError> {
        let known: Vec<AccountId> = open.intersection(&seen.accounts).copied().collect();
        let mut connection = store.read().await?;
        let (found, now) =
            account_events::news_since(&mut connection, &known, &seen.snapshot).await?;
        drop(connection);
        // whoever came since looked before this moment, and has to once more: the next look finds only what is newer
        for account in found.into_iter().chain(open.difference(&seen.accounts).copied()) {
            self.tell(account);
        }
        *seen = Seen { accounts: open, snapshot: now };
        Ok(())
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<AccountId, watch::Sender<()>>> {
        // nothing in here can be left half done by a panic
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountNews {
    /// From here on, news are newer than this moment.
    pub(crate) fn clear(&mut self) {
        self.news.mark_unchanged();
    }

    /// Waits for news since the last [`Self::clear`].
    pub(crate) async fn heard(&mut self) {
        if self.news.changed().await.is_err() {
            // not while this one follows
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for AccountNews {
    fn drop(&mut self) {
        let mut followed = self.accounts.followed();
        // the last one is still counted
        if followed.get(&self.account).is_some_and(|streams| streams.receiver_count() <= 1) {
            followed.remove(&self.account);
        }
        if followed.len() < followed.capacity() / 4 {
            followed.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_stream_hears_of_its_own_account_and_of_no_other() {
        let accounts = Arc::new(Accounts::default());
        let fresh = || AccountId::from_uuid(Uuid::now_v7());
        let (ours, theirs) = (fresh(), fresh());
        let (mut one, mut two) = (accounts.follow(ours), accounts.follow(ours));
        let mut other = accounts.follow(theirs);
        // however much happens to others
        for _ in 0..1_000 {
            accounts.tell(theirs);
        }
        accounts.tell(fresh());
        assert!(one.heard().now_or_never().is_none());
        assert!(other.heard().now_or_never().is_some());
        assert!(other.heard().now_or_never().is_none(), "once for all");
        accounts.tell(ours);
        one.clear();
        assert!(one.heard().now_or_never().is_none(), "it has looked since");
        assert!(two.heard().now_or_never().is_some());
        drop(one);
        accounts.tell_all();
        assert!(two.heard().now_or_never().is_some(), "another stream ended, not this one");
        drop((two, other));
        assert_eq!(accounts.followed().len(), 0);
    }
}
