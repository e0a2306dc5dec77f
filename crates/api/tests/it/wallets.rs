//! Signing in with wallets that are contracts, over a chain that runs them.

use std::{sync::Arc, time::Duration};

use alloy::{
    eips::eip7702::Authorization,
    primitives::{Address, B256, Bytes, U256, hex},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::{SolCall as _, SolConstructor as _, SolValue as _},
};
use serde_json::{Value, json};
use store::{Policy, Store};
use testkit::{DEV_ADDRESSES, ManualClock, RpcProxy, TestChain, TestDb};

use crate::fixture::{CHAIN_ID, NOW, World, key, policy, sign};

mod forged;
mod money;

mod contracts {
    alloy::sol!(SigningWallet, "../escrow/abi/SigningWallet.json");
    alloy::sol!(WalletFactory, "../escrow/abi/WalletFactory.json");
}
use contracts::{SigningWallet, WalletFactory};

/// What a signature by ERC-6492 ends with.
const WRAPPED: B256 =
    B256::new(hex!("6492649264926492649264926492649264926492649264926492649264926492"));

/// How a wallet answers, as the contract numbers it.
#[derive(Clone, Copy)]
enum Manner {
    Answers,
    AnswersAnything,
    Refuses,
    Reverts,
    RevertsMegabyte,
    ReturnsMegabyte,
    ReturnsShort,
    ReturnsDirty,
    BurnsGas,
}

/// A market whose chain has a factory of wallets, and is asked by two endpoints.
struct Town {
    world: World,
    chain: TestChain,
    /// The endpoint that is asked first.
    first: RpcProxy,
    factory: Address,
}

impl Town {
    async fn new() -> Self {
        Self::with(policy()).await
    }

    async fn with(policy: Policy) -> Self {
        let chain = TestChain::start().await.unwrap();
        let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
        let clock = Arc::new(ManualClock::new(NOW.millis()));
        let store = Store::from_pool(db.pool, clock.clone(), policy);
        let first = RpcProxy::before(chain.url(), 1).await.unwrap();
        let urls = format!("{},{}", first.url(), chain.url());
        let world = World::over(store, clock, &urls, |_| {}).await;
        let mut town = Self { world, chain, first, factory: Address::ZERO };
        town.factory = town.create(WalletFactory::BYTECODE.to_vec()).await;
        town
    }

    /// A transaction that must succeed; its receipt.
    async fn send(&self, request: Value) -> Value {
        let hash = self.chain.anvil().call("eth_sendTransaction", json!([request])).await.unwrap();
        // anvil mines at once, but answers a moment before
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            let asked = self.chain.anvil().call("eth_getTransactionReceipt", json!([hash])).await;
            let receipt = asked.unwrap();
            if !receipt.is_null() {
                assert_eq!(receipt["status"], "0x1", "{receipt}");
                return receipt;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("{hash} was not mined");
    }

    async fn create(&self, code: Vec<u8>) -> Address {
        let code = Bytes::from(code);
        let receipt = self.send(json!({"from": DEV_ADDRESSES[0], "data": code})).await;
        receipt["contractAddress"].as_str().unwrap().parse().unwrap()
    }

    async fn call(&self, to: Address, data: Vec<u8>) -> Value {
        let data = Bytes::from(data);
        self.send(json!({"from": DEV_ADDRESSES[0], "to": to, "data": data})).await
    }

    /// A wallet of this owner that is deployed.
    async fn wallet(&self, owner: Address) -> Address {
        let arguments = SigningWallet::constructorCall { owner }.abi_encode();
        self.create([SigningWallet::BYTECODE.to_vec(), arguments].concat()).await
    }

    async fn behave(&self, wallet: Address, manner: Manner) {
        let call = SigningWallet::setMannerCall { manner_: manner as u8 };
        self.call(wallet, call.abi_encode()).await;
    }

    /// Where the factory would put this owner's wallet.
    async fn address_of(&self, owner: Address, salt: B256) -> Address {
        let call = WalletFactory::addressOfCall { owner, salt }.abi_encode();
        let said = self.world.state.chain.call(self.factory, call).await.unwrap();
        WalletFactory::addressOfCall::abi_decode_returns(&said).unwrap()
    }

    /// A signature as a wallet gives it that is not deployed yet.
    fn wrapped(&self, owner: &PrivateKeySigner, salt: B256, message: &str) -> String {
        let deploy = WalletFactory::deployCall { owner: owner.address(), salt }.abi_encode();
        let own = owner.sign_message_sync(message.as_bytes()).unwrap().as_bytes();
        wrap(self.factory, deploy, &own)
    }

    async fn signs_in(&self, wallet: Address, message: &str, signature: &str) {
        let said = self.world.verify(message, signature).await.ok(201);
        let address: Address = said["account"]["address"].as_str().unwrap().parse().unwrap();
        assert_eq!(address, wallet);
        // once
        self.world.verify(message, signature).await.problem(401, "siwe-invalid");
    }

    async fn refuses(&self, message: &str, signature: &str) {
        self.world.verify(message, signature).await.problem(401, "siwe-invalid");
    }

    /// From now on a key's account answers as this owner's wallet does (EIP-7702).
    async fn delegate(&self, account: &PrivateKeySigner, owner: Address) {
        let code = self.wallet(owner).await;
        let authorization =
            Authorization { chain_id: U256::from(CHAIN_ID), address: code, nonce: 0 };
        let signature = account.sign_hash_sync(&authorization.signature_hash()).unwrap();
        let signed = authorization.into_signed(signature);
        self.send(json!({"from": DEV_ADDRESSES[0], "to": account.address(), "type": "0x4",
                         "authorizationList": [signed]}))
            .await;
        assert!(self.has_code(account.address()).await);
    }

    async fn has_code(&self, account: Address) -> bool {
        self.world.state.chain.code_hash(account).await.unwrap().is_some()
    }
}

fn wrap(factory: Address, input: Vec<u8>, own: &[u8]) -> String {
    let parts = (factory, Bytes::from(input), Bytes::copy_from_slice(own)).abi_encode_params();
    hex::encode_prefixed([parts, WRAPPED.to_vec()].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_wallet_answers_for_its_owner() {
    let town = Town::new().await;
    let owner = key(1);
    let wallet = town.wallet(owner.address()).await;
    let message = town.world.message(wallet).await;
    town.refuses(&message, &sign(&key(2), &message)).await;
    town.refuses(&message, "0xbadbad").await;
    let other = town.world.message(wallet).await;
    town.refuses(&message, &sign(&owner, &other)).await;
    town.signs_in(wallet, &message, &sign(&owner, &message)).await;
    // the owner is somebody else than the wallet
    let own = town.world.sign_in(1).await;
    let me = town.world.get("/v1/me").auth(&own.token).send().await.ok(200);
    assert_eq!(me["address"].as_str().unwrap().parse::<Address>().unwrap(), owner.address());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_answers_oddly_says_no() {
    let town = Town::new().await;
    let owner = key(1);
    let wallet = town.wallet(owner.address()).await;
    let message = town.world.message(wallet).await;
    let signature = sign(&owner, &message);
    for manner in [
        Manner::Refuses,
        Manner::Reverts,
        Manner::RevertsMegabyte,
        Manner::ReturnsMegabyte,
        Manner::ReturnsShort,
        Manner::ReturnsDirty,
        Manner::BurnsGas,
    ] {
        town.behave(wallet, manner).await;
        town.refuses(&message, &signature).await;
    }
    town.behave(wallet, Manner::Answers).await;
    // some gas is for passkeys and several owners, not any amount
    town.call(wallet, SigningWallet::setGasCall { gas: U256::from(300_000) }.abi_encode()).await;
    town.signs_in(wallet, &message, &signature).await;
    town.call(wallet, SigningWallet::setGasCall { gas: U256::from(600_000) }.abi_encode()).await;
    let message = town.world.message(wallet).await;
    town.refuses(&message, &sign(&owner, &message)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_not_deployed_yet_signs_in_and_stays_so() {
    let town = Town::new().await;
    let (owner, salt) = (key(1), B256::repeat_byte(9));
    let wallet = town.address_of(owner.address(), salt).await;
    let message = town.world.message(wallet).await;
    // by its owner, unwrapped: nobody could ask it
    town.refuses(&message, &sign(&owner, &message)).await;
    // the owner of another wallet, a factory that puts it elsewhere, that reverts, that is none
    town.refuses(&message, &town.wrapped(&key(2), salt, &message)).await;
    town.refuses(&message, &town.wrapped(&owner, B256::repeat_byte(8), &message)).await;
    let own = owner.sign_message_sync(message.as_bytes()).unwrap().as_bytes();
    town.refuses(&message, &wrap(town.factory, vec![1, 2, 3, 4], &own)).await;
    town.refuses(&message, &wrap(Address::repeat_byte(5), Vec::new(), &own)).await;
    town.refuses(&message, &hex::encode_prefixed(WRAPPED)).await;
    town.signs_in(wallet, &message, &town.wrapped(&owner, salt, &message)).await;
    assert!(!town.has_code(wallet).await, "nothing was deployed");

    // deployed meanwhile, it is asked as it is: with the same form of signature, and without
    let deploy = WalletFactory::deployCall { owner: owner.address(), salt };
    town.call(town.factory, deploy.abi_encode()).await;
    let message = town.world.message(wallet).await;
    town.signs_in(wallet, &message, &town.wrapped(&owner, salt, &message)).await;
    let message = town.world.message(wallet).await;
    town.signs_in(wallet, &message, &sign(&owner, &message)).await;
    town.behave(wallet, Manner::Refuses).await;
    let message = town.world.message(wallet).await;
    town.refuses(&message, &town.wrapped(&owner, salt, &message)).await;
}

/// Whoever has a factory that answers for everybody has nobody's account by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_factory_cannot_speak_for_an_account_that_it_does_not_make() {
    let town = Town::new().await;
    let victim = key(1).address();
    let yes = town.wallet(key(2).address()).await;
    town.behave(yes, Manner::AnswersAnything).await;
    let message = town.world.message(victim).await;
    let deploy = WalletFactory::deployCall { owner: key(2).address(), salt: B256::ZERO };
    for (factory, input) in
        [(town.factory, deploy.abi_encode()), (yes, Vec::new()), (victim, Vec::new())]
    {
        let own = key(2).sign_message_sync(message.as_bytes()).unwrap().as_bytes();
        town.refuses(&message, &wrap(factory, input, &own)).await;
    }
}

/// EIP-7702: the key signs as before, and what its code accepts counts too.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_delegated_code_signs_by_its_key_or_its_code() {
    let town = Town::new().await;
    let (account, device) = (key(1), key(2));
    let to = account.address();
    town.delegate(&account, device.address()).await;
    let message = town.world.message(to).await;
    town.refuses(&message, &sign(&key(3), &message)).await;
    town.signs_in(to, &message, &sign(&account, &message)).await;
    let message = town.world.message(to).await;
    town.signs_in(to, &message, &sign(&device, &message)).await;
}

/// One endpoint's word lets nobody in.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_lies_opens_no_account() {
    let town = Town::new().await;
    let victim = town.wallet(key(1).address()).await;
    let nobody = Address::repeat_byte(0x77);
    let yes = format!("0x1626ba7e{:0<56}", "");
    let said = yes.clone();
    town.first.meddle(move |method, _, result| {
        if method == "eth_call" {
            *result = json!(said);
        }
    });
    let message = town.world.message(victim).await;
    let reply = town.world.verify(&message, &sign(&key(2), &message)).await;
    assert_ne!(reply.status, 201);
    town.first.meddle(move |method, _, result| match method {
        "eth_getCode" => *result = json!("0x00"),
        "eth_call" => *result = json!(yes),
        _ => {}
    });
    let message = town.world.message(nobody).await;
    let reply = town.world.verify(&message, &sign(&key(2), &message)).await;
    reply.problem(503, "chain-unavailable");
    // both tell the truth
    town.first.meddle(|_, _, _| {});
    let message = town.world.message(victim).await;
    town.signs_in(victim, &message, &sign(&key(1), &message)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_one_nonce_the_chain_is_asked_a_few_times_only() {
    let town = Town::new().await;
    let owner = key(1);
    let wallet = town.wallet(owner.address()).await;
    let message = town.world.message(wallet).await;
    for _ in 0..8 {
        town.refuses(&message, &sign(&key(2), &message)).await;
    }
    let refused = town.world.verify(&message, &sign(&owner, &message)).await;
    let refused = refused.problem(401, "siwe-invalid");
    assert!(refused["detail"].as_str().unwrap().contains("ask for another"), "{refused}");
    let message = town.world.message(wallet).await;
    town.signs_in(wallet, &message, &sign(&owner, &message)).await;
}
