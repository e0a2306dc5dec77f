// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";
import {OddToken} from "./mocks/OddToken.sol";
import {Wallet} from "./mocks/Receivers.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @notice Withdrawals that somebody else sends, for those who have no gas.
contract WithdrawBySigTest is Signing {
    uint256 private constant DEADLINE = T0 + 1 hours;

    function setUp() public override {
        super.setUp();
        _prepay(provider, address(usdc), 1000);
        _prepay(provider, NATIVE, 1000);
    }

    function test_WithdrawBySig_SentByAnyone() public {
        bytes memory signature = _sign(address(usdc), stranger, 300, 0);
        vm.expectEmit(address(escrow));
        emit IEscrow.NonceUsed(provider, 0);
        vm.expectEmit(address(escrow));
        emit IEscrow.Withdrawn(provider, address(usdc), stranger, 300);
        vm.prank(operator);
        escrow.withdrawBySig(provider, address(usdc), stranger, 300, DEADLINE, signature);
        assertEq(usdc.balanceOf(stranger), 300, "paid");
        assertEq(escrow.balanceOf(provider, address(usdc)), 700, "the rest");
        assertEq(escrow.nonces(provider), 1, "nonce");
        signature = _compact(_key("provider"), _withdrawalDigest(provider, NATIVE, stranger, 0, 1, DEADLINE));
        escrow.withdrawBySig(provider, NATIVE, stranger, 0, DEADLINE, signature);
        assertEq(stranger.balance, 1000, "all of it");
        assertEq(escrow.nonces(provider), 2, "nonce");
    }

    function test_WithdrawBySig_Replayed() public {
        bytes memory signature = _sign(address(usdc), stranger, 300, 0);
        escrow.withdrawBySig(provider, address(usdc), stranger, 300, DEADLINE, signature);
        _refusedSig(address(usdc), stranger, 300, DEADLINE, signature, IEscrow.BadSignature.selector);
        assertEq(usdc.balanceOf(stranger), 300, "once");
    }

    /// @dev One after the other, in the order signed.
    function test_WithdrawBySig_Nonce_PlusMinusOne() public {
        bytes memory first = _sign(address(usdc), stranger, 1, 0);
        bytes memory second = _sign(address(usdc), stranger, 1, 1);
        _refusedSig(address(usdc), stranger, 1, DEADLINE, second, IEscrow.BadSignature.selector);
        escrow.withdrawBySig(provider, address(usdc), stranger, 1, DEADLINE, first);
        escrow.withdrawBySig(provider, address(usdc), stranger, 1, DEADLINE, second);
    }

    function test_WithdrawBySig_Deadline_PlusMinusOne() public {
        bytes memory signature = _sign(address(usdc), stranger, 300, 0);
        vm.warp(DEADLINE + 1);
        _refusedSig(address(usdc), stranger, 300, DEADLINE, signature, IEscrow.SignatureExpired.selector);
        vm.warp(DEADLINE);
        escrow.withdrawBySig(provider, address(usdc), stranger, 300, DEADLINE, signature);
    }

    function testFuzz_WithdrawBySig_OtherFields(uint256 which, uint256 other) public {
        bytes memory signature = _sign(address(usdc), stranger, 300, 0);
        which %= 5;
        address account = which == 0 ? renter : provider;
        if (which == 0) _prepay(renter, address(usdc), 1000);
        address token = which == 1 ? NATIVE : address(usdc);
        address to = which == 2 ? address(uint160(bound(other, 1, type(uint160).max))) : stranger;
        uint96 amount = which == 3 ? uint96(bound(other, 0, 1000)) : 300;
        uint256 deadline = which == 4 ? bound(other, T0, type(uint256).max) : DEADLINE;
        vm.assume(which < 2 || to != stranger || amount != 300 || deadline != DEADLINE);
        bytes memory input = abi.encodeCall(escrow.withdrawBySig, (account, token, to, amount, deadline, signature));
        _refused(operator, input, IEscrow.BadSignature.selector);
        assertEq(escrow.nonces(account), 0, "nonce");
        assertEq(usdc.balanceOf(stranger), 0, "nothing");
    }

    function test_WithdrawBySig_AnotherKey() public {
        bytes32 digest = _withdrawalDigest(provider, address(usdc), stranger, 300, 0, DEADLINE);
        bytes memory signature = _signature(_key("stranger"), digest);
        _refusedSig(address(usdc), stranger, 300, DEADLINE, signature, IEscrow.BadSignature.selector);
        _refusedSig(address(usdc), stranger, 300, DEADLINE, "", IEscrow.BadSignature.selector);
        // Not even for the account itself, which has `withdraw`.
        bytes memory input =
            abi.encodeCall(escrow.withdrawBySig, (provider, address(usdc), stranger, 300, DEADLINE, bytes("")));
        _refused(provider, input, IEscrow.BadSignature.selector);
    }

    /// @dev What cannot be paid leaves balance and nonce, so that the same signature can be sent again.
    function test_WithdrawBySig_NotPaid() public {
        bytes memory signature = _sign(address(usdc), stranger, 1001, 0);
        _refusedSig(address(usdc), stranger, 1001, DEADLINE, signature, IEscrow.InsufficientBalance.selector);
        signature = _sign(address(usdc), address(0), 1, 0);
        _refusedSig(address(usdc), address(0), 1, DEADLINE, signature, IEscrow.ZeroAddress.selector);
        signature = _sign(address(usdc), address(escrow), 1, 0);
        _refusedSig(address(usdc), address(escrow), 1, DEADLINE, signature, IEscrow.WithdrawFailed.selector);
        Wallet wallet = new Wallet();
        wallet.setManner(Wallet.Manner.Refuses);
        signature = _sign(NATIVE, address(wallet), 1000, 0);
        _refusedSig(NATIVE, address(wallet), 1000, DEADLINE, signature, IEscrow.WithdrawFailed.selector);
        assertEq(escrow.balanceOf(provider, NATIVE), 1000, "kept");
        assertEq(escrow.nonces(provider), 0, "nonce");
        wallet.setManner(Wallet.Manner.Takes);
        escrow.withdrawBySig(provider, NATIVE, address(wallet), 1000, DEADLINE, signature);
        assertEq(address(wallet).balance, 1000, "paid");
    }

    function test_WithdrawBySig_TokenSaysNo() public {
        OddToken odd = new OddToken();
        _list(address(odd));
        odd.mint(renter, 10);
        vm.prank(renter);
        odd.approve(address(escrow), 10);
        _prepay(provider, address(odd), 10);
        odd.setFault(OddToken.Fault.ReturnsFalse);
        bytes memory signature = _sign(address(odd), stranger, 10, 0);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(odd)));
        escrow.withdrawBySig(provider, address(odd), stranger, 10, DEADLINE, signature);
        assertEq(escrow.balanceOf(provider, address(odd)), 10, "kept");
    }

    function _sign(address token, address to, uint96 amount, uint256 nonce) private returns (bytes memory) {
        return _signature(_key("provider"), _withdrawalDigest(provider, token, to, amount, nonce, DEADLINE));
    }

    function _refusedSig(
        address token,
        address to,
        uint96 amount,
        uint256 deadline,
        bytes memory signature,
        bytes4 error_
    )
        private
    {
        bytes memory input = abi.encodeCall(escrow.withdrawBySig, (provider, token, to, amount, deadline, signature));
        _refused(operator, input, error_);
    }
}
