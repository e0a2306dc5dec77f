// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Governed} from "./Governed.sol";
import {IEscrow} from "./IEscrow.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title How money comes in, waits, and goes out
abstract contract Vault is Governed, ReentrancyGuardTransient {
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

    mapping(address account => mapping(address token => uint256)) private _balances;

    /// @inheritdoc IEscrow
    function withdraw(address token, address to, uint96 amount) external override nonReentrant {
        if (to == address(0)) revert ZeroAddress();
        // Tokens sent to the escrow itself would belong to nobody.
        if (to == address(this)) revert WithdrawFailed();
        uint256 balance = _balances[msg.sender][token];
        if (amount == 0) {
            // forge-lint: disable-next-line(unsafe-typecast) -- bounded on the same line
            amount = balance > type(uint96).max ? type(uint96).max : uint96(balance);
        }
        if (amount == 0 || amount > balance) revert InsufficientBalance();
        _balances[msg.sender][token] = balance - amount;
        emit Withdrawn(msg.sender, token, to, amount);
        if (token == address(0)) {
            if (!_sendNative(to, amount, gasleft())) revert WithdrawFailed();
        } else {
            IERC20(token).safeTransfer(to, amount);
        }
    }

    /// @inheritdoc IEscrow
    function balanceOf(address account, address token) external view override nonReentrantView returns (uint256) {
        return _balances[account][token];
    }

    /// @dev Takes exactly `amount` from the caller.
    function _pull(address token, uint96 amount) internal {
        if (token == address(0)) {
            if (msg.value != amount) revert WrongValue();
            return;
        }
        if (msg.value != 0) revert WrongValue();
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        if (IERC20(token).balanceOf(address(this)) != before + amount) revert InexactTransfer();
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

    /// @dev Sends native coin with at most `gasLimit` gas and copies nothing back.
    function _sendNative(address to, uint256 amount, uint256 gasLimit) private returns (bool ok) {
        assembly ("memory-safe") {
            ok := call(gasLimit, to, amount, 0, 0, 0, 0)
        }
    }

    /// @dev `transfer` with bounded gas, copying one word back. Good answers are `true`, or nothing at all from an
    /// address with code.
    function _tryTransfer(address token, address to, uint256 amount) private returns (bool ok) {
        bytes memory input = abi.encodeCall(IERC20.transfer, (to, amount));
        assembly ("memory-safe") {
            ok := call(TOKEN_PUSH_GAS, token, 0, add(input, 0x20), mload(input), 0, 0x20)
            switch returndatasize()
            case 0 { ok := and(ok, iszero(iszero(extcodesize(token)))) }
            default { ok := and(ok, and(gt(returndatasize(), 0x1f), eq(mload(0), 1))) }
        }
    }
}
