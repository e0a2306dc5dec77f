// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Wallet} from "./mocks/Receivers.sol";

contract WithdrawTest is Fixture {
    function setUp() public override {
        super.setUp();
        address[2] memory tokens = [address(usdc), NATIVE];
        for (uint256 i = 0; i < tokens.length; ++i) {
            Terms memory t = _terms(tokens[i], "earned");
            _activate(t, DEPOSIT);
        }
        skip(1000);
        for (uint256 i = 0; i < tokens.length; ++i) {
            Terms memory t = _terms(tokens[i], "earned");
            t.startBy = T0 + START_IN;
            _stop(t, renter);
        }
    }

    function test_Withdraw_Some_ToAnyAddress() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.Withdrawn(provider, address(usdc), stranger, 300_000);
        vm.prank(provider);
        escrow.withdraw(address(usdc), stranger, 300_000);
        assertEq(usdc.balanceOf(stranger), 300_000, "paid");
        _assertBalances(600_000, 100_000, 700_000);
    }

    function test_Withdraw_All() public {
        vm.startPrank(provider);
        escrow.withdraw(address(usdc), provider, 0);
        escrow.withdraw(NATIVE, provider, 0);
        vm.stopPrank();
        assertEq(usdc.balanceOf(provider), 900_000, "ERC-20");
        assertEq(provider.balance, 900_000, "native");
        _assertBalances(0, 100_000, 100_000);
    }

    function test_Withdraw_PlusMinusOne() public {
        vm.startPrank(treasury);
        vm.expectRevert(IEscrow.InsufficientBalance.selector);
        escrow.withdraw(address(usdc), treasury, 100_001);
        escrow.withdraw(address(usdc), treasury, 99_999);
        escrow.withdraw(address(usdc), treasury, 1);
        vm.expectRevert(IEscrow.InsufficientBalance.selector);
        escrow.withdraw(address(usdc), treasury, 0);
        vm.stopPrank();
    }

    function test_Withdraw_OnlyTheOwnBalance() public {
        address[4] memory others = [owner, operator, guardian, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IEscrow.InsufficientBalance.selector);
            escrow.withdraw(address(usdc), others[i], 0);
        }
    }

    function test_Withdraw_BadRecipient() public {
        vm.startPrank(provider);
        vm.expectRevert(IEscrow.ZeroAddress.selector);
        escrow.withdraw(address(usdc), address(0), 0);
        vm.expectRevert(IEscrow.WithdrawFailed.selector);
        escrow.withdraw(address(usdc), address(escrow), 0);
        Wallet wallet = new Wallet();
        wallet.setManner(Wallet.Manner.Refuses);
        vm.expectRevert(IEscrow.WithdrawFailed.selector);
        escrow.withdraw(NATIVE, address(wallet), 0);
        vm.stopPrank();
        assertEq(escrow.balanceOf(provider, NATIVE), 900_000, "kept");
    }

    /// @dev A balance can outgrow the 96 bits of one withdrawal: it goes out in parts.
    function test_Withdraw_MoreThan96Bits() public {
        uint96 max = type(uint96).max;
        usdc.mint(renter, 2 * uint256(max));
        for (uint256 i = 0; i < 2; ++i) {
            Terms memory t = _terms(address(usdc), bytes32(i));
            t.pricePerHour = max;
            t.feeBps = 0;
            _activate(t, max);
            skip(1 hours + 10 minutes + 1);
            _stop(t, stranger);
        }
        vm.startPrank(provider);
        escrow.withdraw(address(usdc), provider, 0);
        assertEq(usdc.balanceOf(provider), max, "first part");
        escrow.withdraw(address(usdc), provider, 0);
        vm.stopPrank();
        _assertBalances(900_000, 100_000, usdc.balanceOf(address(escrow)));
    }
}
