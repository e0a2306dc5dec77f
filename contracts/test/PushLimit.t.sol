// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {OddToken} from "./mocks/OddToken.sol";
import {Wallet} from "./mocks/Receivers.sol";

/// @notice How much gas a refund comes with: enough for who needs no more, and what needs more is credited.
contract PushLimitTest is Fixture {
    /// @dev 20,000, and what the chain adds to a call that carries value.
    uint256 private constant NATIVE_GAS = 20_000 + 2300;
    uint256 private constant TOKEN_GAS = 150_000;
    /// @dev At most what a receiver has used before it looks at its gas.
    uint256 private constant DISPATCH = 600;

    function test_PushNative_Gas_PlusMinusOne() public {
        _assertNative(NATIVE_GAS + 1, false);
        _assertNative(NATIVE_GAS - DISPATCH, true);
    }

    function test_PushToken_Gas_PlusMinusOne() public {
        _assertToken(TOKEN_GAS + 1, false);
        _assertToken(TOKEN_GAS - DISPATCH, true);
    }

    /// @dev A wallet that works for it: some slots and a log are within what it is given, all of it is not.
    function test_PushNative_BurnsItsGas() public {
        (Wallet wallet, Terms memory t) = _walletRental();
        wallet.setBurn(15_000);
        uint256 before = vm.snapshotState();
        _stop(t, provider);
        assertEq(address(wallet).balance, 9_000_000, "pushed");
        vm.revertToState(before);
        wallet.setBurn(NATIVE_GAS);
        _stop(t, provider);
        assertEq(escrow.balanceOf(address(wallet), NATIVE), 9_000_000, "credited");
    }

    function _assertNative(uint256 need, bool isPushed) private {
        uint256 before = vm.snapshotState();
        (Wallet wallet, Terms memory t) = _walletRental();
        wallet.setNeed(need);
        if (!isPushed) {
            vm.expectEmit(address(escrow));
            emit IEscrow.Credited(address(wallet), NATIVE, 9_000_000);
        }
        _stop(t, provider);
        assertEq(address(wallet).balance, isPushed ? 9_000_000 : 0, "pushed");
        assertEq(escrow.balanceOf(address(wallet), NATIVE), isPushed ? 0 : 9_000_000, "credited");
        vm.revertToState(before);
    }

    function _assertToken(uint256 need, bool isPushed) private {
        uint256 before = vm.snapshotState();
        OddToken odd = new OddToken();
        odd.mint(renter, DEPOSIT);
        vm.prank(renter);
        odd.approve(address(escrow), DEPOSIT);
        _list(address(odd));
        Terms memory t = _terms(address(odd), "odd");
        _activate(t, DEPOSIT);
        skip(1000);
        odd.setNeed(need);
        if (!isPushed) {
            vm.expectEmit(address(escrow));
            emit IEscrow.Credited(renter, address(odd), 9_000_000);
        }
        _stop(t, provider);
        assertEq(odd.balanceOf(renter), isPushed ? 9_000_000 : 0, "pushed");
        assertEq(escrow.balanceOf(renter, address(odd)), isPushed ? 0 : 9_000_000, "credited");
        vm.revertToState(before);
    }

    function _walletRental() private returns (Wallet wallet, Terms memory t) {
        wallet = new Wallet();
        vm.deal(address(wallet), DEPOSIT);
        t = _terms(NATIVE, "wallet");
        t.renter = address(wallet);
        wallet.lock(escrow, t, DEPOSIT);
        _start(t, _now());
        skip(1000);
    }
}
