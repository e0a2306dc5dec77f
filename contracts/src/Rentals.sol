// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Terms} from "./IEscrow.sol";
import {Signature} from "./Signature.sol";
import {Slot, SlotFields} from "./Slot.sol";
import {Split} from "./Split.sol";
import {Vault} from "./Vault.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title What all transitions share: the rentals, their ids, their windows, and who speaks for whom
/// @dev Every transition that a batch has too is a function that answers 0, or the selector of the error that forbids
/// it: the single call reverts with that selector, the batch skips the item with it. So a batch is the sequence of its
/// single calls.
abstract contract Rentals is Vault {
    struct Agent {
        address key;
        uint40 expiresAt;
    }

    /// @notice How far back a start may be dated.
    uint40 public constant START_WINDOW = 10 minutes;
    /// @notice How far back a stop may be dated.
    uint40 public constant CLOSE_WINDOW = 10 minutes;
    /// @notice Most items of a batch; so many closings stay below Polygon's 16,777,216 gas of a transaction, even if
    /// every renter burns all the gas that a refund comes with.
    uint256 public constant MAX_BATCH = 150;
    /// @notice Most items of a batch with signatures: below that limit even if both sides are smart wallets that burn all
    /// the gas of their check.
    uint256 public constant MAX_SIGNED_BATCH = 40;

    bytes4 internal constant DONE = 0;
    bytes32 private constant TERMS_TYPEHASH = keccak256(
        "Terms(address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash)"
    );

    /// @dev The domain of ids is that of the deployment, so that rentals are found even where a fork changes the chain's
    /// id. What is signed is checked in the domain as it is now.
    bytes32 private immutable ID_DOMAIN;

    mapping(bytes32 id => Slot) internal _rentals;
    mapping(address account => Agent) private _agents;

    constructor() {
        ID_DOMAIN = _domainSeparatorV4();
    }

    /// @inheritdoc IEscrow
    function setAgent(address agent, uint40 expiresAt) external override {
        if (agent == address(0) ? expiresAt != 0 : expiresAt < block.timestamp) revert AgentExpiryInPast();
        _agents[msg.sender] = Agent(agent, expiresAt);
        emit AgentSet(msg.sender, agent, expiresAt);
    }

    /// @inheritdoc IEscrow
    function agentOf(address account) external view override returns (address agent, uint40 expiresAt) {
        return (_agents[account].key, _agents[account].expiresAt);
    }

    /// @inheritdoc IEscrow
    function hashTerms(Terms calldata t) external view override returns (bytes32) {
        return _idOf(t);
    }

    /// @inheritdoc IEscrow
    function domainSeparator() external view override returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @dev No field need be checked here: `lock` reads all of them, so terms with dirty upper bits have no rental.
    function _idOf(Terms calldata t) internal view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(ID_DOMAIN, _structHash(t));
    }

    /// @dev Hashes the terms where they lie.
    function _structHash(Terms calldata t) internal pure returns (bytes32 structHash) {
        bytes32 typehash = TERMS_TYPEHASH;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typehash)
            calldatacopy(add(free, 0x20), t, 0x100)
            structHash := keccak256(free, 0x120)
        }
    }

    /// @dev After `startBy` nobody can lock these terms again, so the slot is freed; before, a tombstone forbids it.
    function _clear(bytes32 id, Terms calldata t) internal {
        _rentals[id] = block.timestamp > t.startBy ? Slot.wrap(0) : SlotFields.TOMBSTONE;
    }

    /// @dev Last second in which the operator can start the rental; it can be reclaimed from the next on.
    function _startWindowEnd(Terms calldata t) internal pure returns (uint256) {
        return uint256(t.startBy) + START_WINDOW;
    }

    function _fundedUntil(Slot slot, Terms calldata t) internal pure returns (uint40) {
        return slot.since() + Split.fundedSecs(slot.deposit(), t.pricePerHour);
    }

    /// @dev Seconds since the start of an active rental; no start lies ahead, and no `until` before it.
    function _elapsed(Slot slot, uint256 until) internal pure returns (uint256) {
        unchecked {
            return until - slot.since();
        }
    }

    function _isRecent(uint256 moment, uint256 window) internal view returns (bool) {
        unchecked {
            return moment <= block.timestamp && block.timestamp - moment <= window;
        }
    }

    function _now() internal view returns (uint40) {
        // forge-lint: disable-next-line(unsafe-typecast) -- 40 bits last for 34,000 years
        return uint40(block.timestamp);
    }

    /// @dev Whether `who` is `account` or acts for it now.
    function _speaksFor(address who, address account) internal view returns (bool) {
        if (who == account) return true;
        Agent memory agent = _agents[account];
        return who == agent.key && block.timestamp <= agent.expiresAt;
    }

    /// @dev Whether `account` signed, or its agent's key.
    function _isSignedFor(address account, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        address signer = Signature.signerOf(digest, signature);
        if (signer != address(0) && _speaksFor(signer, account)) return true;
        return Signature.isByWallet(account, digest, signature);
    }

    /// @dev For whom the caller speaks: the renter, the provider, or 0. Who is a party speaks for itself, whosever agent
    /// it may be too.
    function _side(Terms calldata t) internal view returns (address) {
        if (msg.sender == t.renter || msg.sender == t.provider) return msg.sender;
        if (_speaksFor(msg.sender, t.renter)) return t.renter;
        return _speaksFor(msg.sender, t.provider) ? t.provider : address(0);
    }

    /// @dev Whether `account` wants this: it calls without a signature, or signed.
    function _consents(address account, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        if (msg.sender == account && signature.length == 0) return true;
        return Signature.isBy(account, digest, signature);
    }

    function _skipUnlessDone(bytes32 id, bytes4 refusal) internal {
        if (refusal != DONE) emit Skipped(id, refusal);
    }

    /// @dev Gas of a hostile wallet's signature check bounds the batches that have any.
    function _requireBatch(uint256 items, uint256 most) internal pure {
        if (items > most) revert BatchTooLarge();
    }
}
