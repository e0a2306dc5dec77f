// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC3009} from "./IERC3009.sol";
import {IEscrow, PrepaidItem, Status, Terms} from "./IEscrow.sol";
import {IPermit2} from "./IPermit2.sol";
import {Rentals} from "./Rentals.sol";
import {Slot, SlotFields} from "./Slot.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

/// @title How money gets into a rental
abstract contract Funding is Rentals {
    /// @notice Highest fee, in 1/10,000 of the gross.
    uint16 public constant MAX_FEE_BPS = 1500;
    /// @notice How far ahead of the lock `startBy` may lie.
    uint40 public constant MAX_START_BY = 24 hours;
    /// @notice Uniswap's Permit2.
    IPermit2 public constant PERMIT2 = IPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    /// @dev The rest of Permit2's type after its own fields: the witness, then its types by alphabet.
    string private constant WITNESS_TYPE =
        "Terms witness)Terms(address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash)TokenPermissions(address token,uint256 amount)";
    bytes32 private constant PREPAID_LOCK_TYPEHASH = keccak256(
        "PrepaidLock(Terms terms,uint96 deposit)Terms(address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash)"
    );

    /// @inheritdoc IEscrow
    function lock(Terms calldata t, uint96 deposit) external payable override nonReentrant returns (bytes32 id) {
        if (msg.sender != t.renter) revert NotRenter();
        id = _open(t, deposit);
        _pull(t.token, deposit);
    }

    /// @inheritdoc IEscrow
    function lockWithPermit(
        Terms calldata t,
        uint96 deposit,
        uint256 permitDeadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    )
        external
        override
        nonReentrant
        returns (bytes32 id)
    {
        if (msg.sender != t.renter) revert NotRenter();
        id = _openErc20(t, deposit);
        try IERC20Permit(t.token).permit(msg.sender, address(this), deposit, permitDeadline, v, r, s) {} catch {}
        _pull(t.token, deposit);
    }

    /// @inheritdoc IEscrow
    function lockWithAuthorization(
        Terms calldata t,
        uint96 deposit,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    )
        external
        override
        nonReentrant
        returns (bytes32 id)
    {
        id = _openErc20(t, deposit);
        uint256 before = _held(t.token);
        if (signature.length == 65) {
            IERC3009(t.token)
                .receiveWithAuthorization(
                    t.renter,
                    address(this),
                    deposit,
                    validAfter,
                    validBefore,
                    id,
                    uint8(signature[64]),
                    bytes32(signature[0:32]),
                    bytes32(signature[32:64])
                );
        } else {
            IERC3009(t.token)
                .receiveWithAuthorization(t.renter, address(this), deposit, validAfter, validBefore, id, signature);
        }
        _requireHeld(t.token, before + deposit);
    }

    /// @inheritdoc IEscrow
    function lockWithPermit2(
        Terms calldata t,
        uint96 deposit,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    )
        external
        override
        nonReentrant
        returns (bytes32 id)
    {
        id = _openErc20(t, deposit);
        uint256 before = _held(t.token);
        PERMIT2.permitWitnessTransferFrom(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(t.token, deposit), nonce, deadline),
            IPermit2.SignatureTransferDetails(address(this), deposit),
            t.renter,
            _structHash(t),
            WITNESS_TYPE,
            signature
        );
        _requireHeld(t.token, before + deposit);
    }

    /// @inheritdoc IEscrow
    function lockPrepaid(
        Terms calldata t,
        uint96 deposit,
        bytes calldata signature
    )
        external
        override
        nonReentrant
        returns (bytes32 id)
    {
        id = _idOf(t);
        _revertUnlessDone(_lockPrepaid(id, t, deposit, signature));
    }

    /// @inheritdoc IEscrow
    function lockBatch(PrepaidItem[] calldata items) external override nonReentrant {
        _requireBatch(items.length, MAX_SIGNED_BATCH);
        for (uint256 i = 0; i < items.length; ++i) {
            PrepaidItem calldata item = items[i];
            bytes32 id = _idOf(item.terms);
            _skipUnlessDone(id, _lockPrepaid(id, item.terms, item.deposit, item.signature));
        }
    }

    /// @inheritdoc IEscrow
    function topUp(Terms calldata t, uint96 amount) external payable override nonReentrant {
        bytes32 id = _idOf(t);
        Slot slot = _rentals[id];
        if (amount == 0) revert ZeroAmount();
        _requireOpen(t.token);
        uint96 deposit = slot.deposit();
        if (slot.isIn(Status.Locked)) {
            if (block.timestamp > _startWindowEnd(t)) revert StartWindowOver();
        } else {
            if (!slot.isIn(Status.Active)) revert NotActive();
            if (block.timestamp >= _fundedUntil(slot, t)) revert FundedTimeOver();
        }
        if (amount > type(uint96).max - deposit) revert DepositOverflow();
        deposit += amount;
        _rentals[id] = slot.withDeposit(deposit);
        emit ToppedUp(id, msg.sender, amount, deposit);
        _pull(t.token, amount);
    }

    /// @dev Opens the rental, or reverts; whoever calls this has still to bring the money.
    function _open(Terms calldata t, uint96 deposit) private returns (bytes32 id) {
        id = _idOf(t);
        _revertUnlessDone(_refusalToOpen(id, t, deposit));
        _write(id, t, deposit, false);
    }

    function _openErc20(Terms calldata t, uint96 deposit) private returns (bytes32) {
        if (t.token == address(0)) revert NativeToken();
        return _open(t, deposit);
    }

    function _lockPrepaid(
        bytes32 id,
        Terms calldata t,
        uint96 deposit,
        bytes calldata signature
    )
        private
        returns (bytes4 refusal)
    {
        refusal = _refusalToOpen(id, t, deposit);
        if (refusal != DONE) return refusal;
        // forge-lint: disable-next-line(asm-keccak256) -- plain words are worth some gas here
        bytes32 structHash = keccak256(abi.encode(PREPAID_LOCK_TYPEHASH, _structHash(t), deposit));
        if (!_consents(t.renter, _hashTypedDataV4(structHash), signature)) return BadSignature.selector;
        if (!_debit(t.renter, t.token, deposit)) return InsufficientBalance.selector;
        _write(id, t, deposit, true);
        return DONE;
    }

    function _refusalToOpen(bytes32 id, Terms calldata t, uint96 deposit) private view returns (bytes4) {
        if (t.renter == address(0) || t.provider == address(0)) return ZeroAddress.selector;
        if (t.provider == t.renter) return SelfRental.selector;
        if (t.provider == address(this)) return PayeeIsEscrow.selector;
        if (t.pricePerHour == 0) return ZeroPrice.selector;
        if (t.feeBps > MAX_FEE_BPS) return FeeTooHigh.selector;
        if (t.startBy < block.timestamp || t.startBy > block.timestamp + MAX_START_BY) {
            return StartByOutOfRange.selector;
        }
        if (deposit == 0) return ZeroAmount.selector;
        bytes4 refusal = _refusalOf(t.token);
        if (refusal != DONE) return refusal;
        return _rentals[id].isNone() ? DONE : IdUsed.selector;
    }

    /// @dev `holdback` is of the terms that `_write` emits, and so is checked to be clean there.
    function _write(bytes32 id, Terms calldata t, uint96 deposit, bool prepaid) private {
        _rentals[id] = SlotFields.locked(deposit, _now());
        emit Locked(id, t.renter, t.provider, t, deposit, prepaid);
    }
}
