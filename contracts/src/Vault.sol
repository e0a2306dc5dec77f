// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Governed} from "./Governed.sol";
import {IEscrow} from "./IEscrow.sol";
import {Signature} from "./Signature.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title How money comes in, waits, and goes out
abstract contract Vault is Governed, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice Fees of one token, summed while a call runs and credited to the treasury at its end: a batch sorted by
    /// token writes the treasury's balance once per token.
    struct Fees {
        address token;
        uint256 sum;
    }

    /// @dev Gas for a refund in the native coin: enough for a smart wallet's event, too little to do harm.
    uint256 private constant NATIVE_PUSH_GAS = 20_000;
    /// @dev Gas for a refund in an ERC-20: about twice what a listed token needs at its dearest.
    uint256 private constant TOKEN_PUSH_GAS = 150_000;

    bytes32 private constant WITHDRAWAL_TYPEHASH =
        keccak256("Withdrawal(address account,address token,address to,uint96 amount,uint256 nonce,uint256 deadline)");

    mapping(address account => mapping(address token => uint256)) private _balances;
    mapping(address account => uint256) public override nonces;

    /// @inheritdoc IEscrow
    function prepay(address account, address token, uint96 amount) external payable override nonReentrant {
        if (account == address(0)) revert ZeroAddress();
        if (account == address(this)) revert PayeeIsEscrow();
        if (amount == 0) revert ZeroAmount();
        _requireOpen(token);
        _credit(account, token, amount);
        emit Prepaid(account, token, msg.sender, amount);
        _pull(token, amount);
    }

    /// @inheritdoc IEscrow
    function withdraw(address token, address to, uint96 amount) external override nonReentrant {
        _withdraw(msg.sender, token, to, amount);
    }

    /// @inheritdoc IEscrow
    function withdrawBySig(
        address account,
        address token,
        address to,
        uint96 amount,
        uint256 deadline,
        bytes calldata signature
    )
        external
        override
        nonReentrant
    {
        if (block.timestamp > deadline) revert SignatureExpired();
        uint256 nonce = nonces[account]++;
        // forge-lint: disable-next-line(asm-keccak256) -- plain words are worth some gas here
        bytes32 structHash = keccak256(abi.encode(WITHDRAWAL_TYPEHASH, account, token, to, amount, nonce, deadline));
        if (!Signature.isBy(account, _hashTypedDataV4(structHash), signature)) revert BadSignature();
        emit NonceUsed(account, nonce);
        _withdraw(account, token, to, amount);
    }

    /// @inheritdoc IEscrow
    function balanceOf(address account, address token) external view override nonReentrantView returns (uint256) {
        return _balances[account][token];
    }

    /// @dev Nothing else here is transient, and a short slot number makes short code.
    function _reentrancyGuardStorageSlot() internal pure override returns (bytes32) {
        return 0;
    }

    /// @dev Takes exactly `amount` from the caller.
    function _pull(address token, uint96 amount) internal {
        if (token == address(0)) {
            if (msg.value != amount) revert WrongValue();
            return;
        }
        if (msg.value != 0) revert WrongValue();
        uint256 before = _held(token);
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        _requireHeld(token, before + amount);
    }

    function _held(address token) internal view returns (uint256) {
        return IERC20(token).balanceOf(address(this));
    }

    /// @dev After a payment: what a token says that it moved is not enough.
    function _requireHeld(address token, uint256 expected) internal view {
        if (_held(token) != expected) revert InexactTransfer();
    }

    /// @dev Sends `amount` to `to`, or credits it where that fails: whoever refuses money, by a blocklist, a reverting
    /// receiver or too little gas, holds up nobody else.
    function _push(address token, address to, uint96 amount) internal returns (bool pushed) {
        if (amount == 0) return true;
        pushed = token == address(0) ? _sendNative(to, amount, NATIVE_PUSH_GAS) : _tryTransfer(token, to, amount);
        if (!pushed) {
            _credit(to, token, amount);
            emit Credited(to, token, amount);
        }
    }

    function _credit(address account, address token, uint256 amount) internal {
        if (amount != 0) _balances[account][token] += amount;
    }

    /// @dev Takes `amount` off a balance, and answers whether it was there.
    function _debit(address account, address token, uint256 amount) internal returns (bool) {
        uint256 balance = _balances[account][token];
        if (amount > balance) return false;
        unchecked {
            _balances[account][token] = balance - amount;
        }
        return true;
    }

    function _addFee(Fees memory fees, address token, uint96 fee) internal {
        if (fees.token != token) {
            _bankFees(fees);
            fees.token = token;
            fees.sum = 0;
        }
        fees.sum += fee;
    }

    function _bankFees(Fees memory fees) internal {
        if (fees.sum != 0) _credit(treasury, fees.token, fees.sum);
    }

    function _withdraw(address account, address token, address to, uint96 amount) private {
        if (to == address(0)) revert ZeroAddress();
        // Tokens sent to the escrow itself would belong to nobody.
        if (to == address(this)) revert WithdrawFailed();
        if (amount == 0) {
            uint256 balance = _balances[account][token];
            // forge-lint: disable-next-line(unsafe-typecast) -- bounded on the same line
            amount = balance > type(uint96).max ? type(uint96).max : uint96(balance);
        }
        if (amount == 0 || !_debit(account, token, amount)) revert InsufficientBalance();
        emit Withdrawn(account, token, to, amount);
        if (token == address(0)) {
            if (!_sendNative(to, amount, gasleft())) revert WithdrawFailed();
        } else {
            IERC20(token).safeTransfer(to, amount);
        }
    }

    /// @dev Sends native coin with at most `gasLimit` gas and copies nothing back.
    function _sendNative(address to, uint256 amount, uint256 gasLimit) private returns (bool ok) {
        assembly ("memory-safe") {
            ok := call(gasLimit, to, amount, 0, 0, 0, 0)
        }
    }

    /// @dev `transfer(to, amount)` with bounded gas, copying one word back. Good answers are `true`, or nothing at all
    /// from an address with code. The input lies in scratch memory: 0x10 to 0x54, of which the end is the upper, empty
    /// part of the free memory pointer, and is emptied again.
    function _tryTransfer(address token, address to, uint256 amount) private returns (bool ok) {
        bytes4 selector = IERC20.transfer.selector;
        assembly ("memory-safe") {
            mstore(0x00, shr(128, selector))
            mstore(0x14, to)
            mstore(0x34, amount)
            ok := call(TOKEN_PUSH_GAS, token, 0, 0x10, 0x44, 0x00, 0x20)
            mstore(0x34, 0)
            switch returndatasize()
            case 0 { ok := and(ok, iszero(iszero(extcodesize(token)))) }
            default { ok := and(ok, and(gt(returndatasize(), 0x1f), eq(mload(0), 1))) }
        }
    }
}
