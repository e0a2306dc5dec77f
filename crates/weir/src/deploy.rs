//! Deploys the escrow and a test token to a local chain, and records both. A public chain's deployment
//! is a matter for `deploy/`.

use std::time::Duration;

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, Bytes, U256},
    sol_types::{SolCall, SolConstructor},
};
use chain::ReadClient;
use domain::{
    money::{Decimals, UsdMicros},
    time::UnixSeconds,
};
use escrow::bindings::{Escrow, TestUSDC};
use store::{
    Store, StoreError, TxError,
    deployment::{self, Deployment},
    feeds,
    tokens::{self, Token},
};
use testkit::anvil::DEV_KEYS;

use crate::{failure::Failure, wallet::Wallet};

mod local;

use local::Priced;

/// The roles that anvil's well-known test accounts play on a local chain.
pub(crate) struct Roles;

impl Roles {
    /// Owns the contract.
    pub(crate) const OWNER: &'static str = DEV_KEYS[0];
    /// Starts and closes rentals.
    pub(crate) const OPERATOR: &'static str = DEV_KEYS[1];
    /// Earns the fees.
    pub(crate) const TREASURY: &'static str = DEV_KEYS[2];
    /// May pause a token for new locks.
    pub(crate) const GUARDIAN: &'static str = DEV_KEYS[3];
    /// Rents.
    pub(crate) const RENTER: &'static str = DEV_KEYS[4];
    /// Lists a machine.
    pub(crate) const PROVIDER: &'static str = DEV_KEYS[5];
    /// Decides disputes about held seconds.
    pub(crate) const ARBITER: &'static str = DEV_KEYS[7];
    /// Signs quotes. The eleventh account of the same public mnemonic: anvil gives money to ten.
    pub(crate) const QUOTER: &'static str =
        "0xf214f2b2cd398c806f84e317254e0f0b801d0643303237d97a22a48e01628897";
}

/// The chain id of local chains.
const LOCAL_CHAIN: u64 = 31_337;
/// The test dollars that the renter starts with.
const TEST_DOLLARS: u64 = 10_000_000_000;

/// Deploys unless the database knows a deployment that the chain confirms.
///
/// # Errors
/// If the chain is not local, or is not the one that the database belongs to.
pub(crate) async fn ensure(
    store: &Store,
    client: &ReadClient,
    rpc_url: &str,
) -> Result<Deployment, Failure> {
    let known = {
        let mut connection = store.read().await.map_err(Failure::during("the database"))?;
        deployment::get(&mut connection).await.map_err(Failure::during("the database"))?
    };
    if let Some(known) = known {
        engine::Site::check(client, &known).await.map_err(Failure::during("the chain"))?;
        local::renew(store, client, rpc_url, known.chain_id == LOCAL_CHAIN).await?;
        return Ok(known);
    }
    // The keys are known to everybody: where they happen to have money is no place for a contract of theirs.
    let chain_id = client.chain_id().await.map_err(Failure::during("the chain"))?;
    let owner = Wallet::open(Roles::OWNER, rpc_url).await?;
    let funds = client.balance(owner.address()).await.map_err(Failure::during("the chain"))?;
    if chain_id != LOCAL_CHAIN || funds.is_zero() {
        return Err(Failure::new(
            "the chain of RPC_URL is not a local one (chain id 31337, with funded test accounts), so the escrow is \
             not deployed there by `weir up`; use a local anvil, or deploy as deploy/README.md says",
        ));
    }
    let deployed = deploy(&owner, client, rpc_url).await?;
    record(store, &deployed).await?;
    Ok(deployed.deployment)
}

struct Deployed {
    deployment: Deployment,
    usdc: Address,
    usdc_domain: (String, String),
    wrapped: Vec<Priced>,
    at: UnixSeconds,
}

async fn deploy(owner: &Wallet, client: &ReadClient, rpc_url: &str) -> Result<Deployed, Failure> {
    let of = |key: &'static str| async move {
        Wallet::open(key, rpc_url).await.map(|wallet| wallet.address())
    };
    let renter = of(Roles::RENTER).await?;
    let (usdc, _) = owner.deploy(TestUSDC::BYTECODE.clone()).await?;
    let wrapped = local::deploy(owner, renter).await?;
    let mut listed = vec![usdc];
    listed.extend(wrapped.iter().map(|token| token.token.address));
    let config = Escrow::Config {
        owner: owner.address(),
        guardian: of(Roles::GUARDIAN).await?,
        treasury: of(Roles::TREASURY).await?,
        arbiter: of(Roles::ARBITER).await?,
        operators: vec![of(Roles::OPERATOR).await?],
        tokens: listed,
    };
    let constructor = Escrow::constructorCall { config };
    let (escrow, block) =
        owner.deploy(with_arguments(&Escrow::BYTECODE, constructor.abi_encode())).await?;
    let mint = TestUSDC::mintCall { to: renter, amount: U256::from(TEST_DOLLARS) }.abi_encode();
    owner.send(usdc, mint, U256::ZERO).await?;

    let genesis = client
        .header(BlockNumberOrTag::Earliest)
        .await
        .map_err(Failure::during("the chain"))?
        .ok_or_else(|| Failure::new("the chain has no first block"))?;
    let code_hash = client
        .code_hash(escrow)
        .await
        .map_err(Failure::during("the chain"))?
        .ok_or_else(|| Failure::new("the deployed contract has no code"))?;
    let head = client.head().await.map_err(Failure::during("the chain"))?;
    Ok(Deployed {
        deployment: Deployment {
            chain_id: client.chain_id().await.map_err(Failure::during("the chain"))?,
            genesis_hash: genesis.hash,
            escrow,
            code_hash,
            deployed_block: block,
        },
        usdc,
        wrapped,
        usdc_domain: permit_domain(client, usdc).await?,
        at: head.timestamp,
    })
}

fn with_arguments(code: &Bytes, arguments: Vec<u8>) -> Bytes {
    let mut code = code.to_vec();
    code.extend(arguments);
    code.into()
}

/// The token's EIP-712 name and version, as the token itself says.
async fn permit_domain(client: &ReadClient, token: Address) -> Result<(String, String), Failure> {
    let data = client
        .call(token, TestUSDC::eip712DomainCall {}.abi_encode())
        .await
        .map_err(Failure::during("the token's domain"))?;
    let domain = TestUSDC::eip712DomainCall::abi_decode_returns(&data)
        .map_err(Failure::during("the token's domain"))?;
    Ok((domain.name, domain.version))
}

async fn record(store: &Store, deployed: &Deployed) -> Result<(), Failure> {
    let usdc = Token {
        address: deployed.usdc,
        symbol: "USDC".to_owned(),
        decimals: Decimals::new(6).map_err(Failure::during("decimals"))?,
        usd: UsdMicros::new(1_000_000),
        price_source: "a US dollar by definition".to_owned(),
        priced_at: deployed.at,
        fixed: true,
        permit: Some(deployed.usdc_domain.clone()),
    };
    let site = deployed.deployment.clone();
    let priced: Vec<Priced> = deployed.wrapped.iter().map(|one| one.at(deployed.at)).collect();
    let recorded = store
        .write("record deployment", move |tx| {
            let (site, usdc, priced) = (site.clone(), usdc.clone(), priced.clone());
            Box::pin(async move {
                deployment::record(tx, &site).await?;
                tokens::upsert(tx, &usdc).await?;
                for one in &priced {
                    tokens::upsert(tx, &one.token).await?;
                    feeds::name(tx, one.token.address, one.feed, one.decimals, local::MAX_AGE)
                        .await?;
                }
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await;
    recorded.map_err(Failure::during("recording the deployment"))?;
    tracing::info!(escrow = %deployed.deployment.escrow, "escrow deployed");
    Ok(())
}

/// How long a deployment may take; more means that the chain makes no blocks.
pub(crate) const DEPLOY_WITHIN: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use alloy::signers::local::PrivateKeySigner;
    use testkit::anvil::DEV_ADDRESSES;

    use super::*;

    #[test]
    fn the_quoting_key_is_none_of_those_that_anvil_gives_money() {
        let key: PrivateKeySigner = Roles::QUOTER.parse().unwrap();
        let address = key.address().to_string();
        assert_eq!(address, "0xBcd4042DE499D14e55001CcbB24a551F3b954096");
        assert!(!DEV_ADDRESSES.contains(&address.as_str()));
    }
}
