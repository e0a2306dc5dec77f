//! Hundreds of signatures that no contract wallet made: of one that is deployed (EIP-1271), one that is not (ERC-6492), and
//! an account with delegated code (EIP-7702), each asked as it is on a chain.

use super::*;
use crate::forgeries::forgery::{Random, noise, other_signature};

const SEED: u64 = 7_702;
/// Of each kind of wallet.
const TRIES: usize = 120;
/// For one nonce wallets are asked about no more than eight times.
const OF_A_NONCE: usize = 6;

/// A wallet, who signs for it, and, if it is not deployed, with what its factory makes it.
struct Account {
    wallet: Address,
    owner: PrivateKeySigner,
    salt: Option<B256>,
}

impl Account {
    fn signs(&self, town: &Town, message: &str) -> String {
        match self.salt {
            Some(salt) => town.wrapped(&self.owner, salt, message),
            None => sign(&self.owner, message),
        }
    }

    /// Something close to a signature of a message; `other` is another message of the same wallet.
    fn forged(&self, town: &Town, (message, other): (&str, &str), random: &mut Random) -> String {
        let good = self.owner.sign_message_sync(message.as_bytes()).unwrap().as_bytes().to_vec();
        let own = match random.below(4) {
            0 | 1 => other_signature(&good, random),
            2 => self.owner.sign_message_sync(other.as_bytes()).unwrap().as_bytes().to_vec(),
            _ => key(2).sign_message_sync(message.as_bytes()).unwrap().as_bytes().to_vec(),
        };
        let deploy = |owner: Address, salt| WalletFactory::deployCall { owner, salt }.abi_encode();
        let right = deploy(self.owner.address(), self.salt.unwrap_or_default());
        match random.below(8) {
            0 => hex::encode_prefixed(noise(random)),
            // with how somebody else's wallet is deployed, who did sign
            1 => {
                let own = key(2).sign_message_sync(message.as_bytes()).unwrap().as_bytes();
                wrap(town.factory, deploy(key(2).address(), B256::ZERO), &own)
            }
            2 if self.salt.is_some() => {
                let salt = B256::from(U256::from(1 + random.below(1_000)));
                wrap(town.factory, deploy(self.owner.address(), salt), &good)
            }
            3 if self.salt.is_some() => {
                let factory = Address::from_word(B256::from(U256::from(random.draw())));
                wrap(factory, right, &good)
            }
            4 if self.salt.is_some() => {
                // cut off, or with another end
                let mut whole = hex::decode(wrap(town.factory, right, &good)).unwrap();
                let place = whole.len() - 1 - random.below(32);
                if random.below(2) == 0 {
                    whole.truncate(place)
                } else {
                    whole[place] ^= 1
                }
                hex::encode_prefixed(whole)
            }
            5 if self.salt.is_some() => hex::encode_prefixed(&good),
            6 => wrap(town.factory, right, &own),
            _ if self.salt.is_some() => wrap(town.factory, right, &own),
            _ => hex::encode_prefixed(&own),
        }
    }
}

async fn try_all(town: &Town, account: &Account, random: &mut Random) {
    let world = &town.world;
    for round in 0..TRIES / OF_A_NONCE {
        let (message, other) =
            (world.message(account.wallet).await, world.message(account.wallet).await);
        for n in 0..OF_A_NONCE {
            let forged = account.forged(town, (&message, &other), random);
            let reply = world.verify(&message, &forged).await;
            assert!(
                [401, 422].contains(&reply.status.as_u16()),
                "{round}/{n}: {forged}: {reply:?}"
            );
        }
        if round == 0 {
            town.signs_in(account.wallet, &message, &account.signs(town, &message)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_signature_is_a_contracts() {
    let town = Town::new().await;
    let (owner, salt) = (key(1), B256::repeat_byte(9));
    let delegated = key(3);
    town.delegate(&delegated, owner.address()).await;
    let accounts = [
        (town.wallet(owner.address()).await, None),
        (town.address_of(owner.address(), salt).await, Some(salt)),
        (delegated.address(), None),
    ];
    let mut random = Random(SEED);
    for (wallet, salt) in accounts {
        try_all(&town, &Account { wallet, owner: owner.clone(), salt }, &mut random).await;
    }
    let sessions = "SELECT count(*) FROM sessions";
    let opened: i64 =
        sqlx::query_scalar(sessions).fetch_one(town.world.store.pool()).await.unwrap();
    assert_eq!(opened, 3, "those of the wallets themselves");
}
