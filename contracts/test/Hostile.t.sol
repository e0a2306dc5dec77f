// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {OddToken} from "./mocks/OddToken.sol";
import {Forcer, Wallet} from "./mocks/Receivers.sol";

/// @notice Tokens and wallets that misbehave once the money is in.
contract HostileTest is Fixture {
    OddToken private _odd;

    function setUp() public override {
        super.setUp();
        // An address that ends in 01: left in memory behind a short answer of zeros it would read as `true`.
        _odd = OddToken(address(0xdd01));
        vm.etch(address(_odd), address(new OddToken()).code);
        _odd.mint(renter, DEPOSIT);
        vm.prank(renter);
        _odd.approve(address(escrow), type(uint256).max);
        _list(address(_odd));
    }

    function test_Push_EachFault_Credits() public {
        OddToken.Fault[6] memory faults = [
            OddToken.Fault.ReturnsFalse,
            OddToken.Fault.ReturnsTwo,
            OddToken.Fault.ReturnsShort,
            OddToken.Fault.ReturnsMegabyte,
            OddToken.Fault.RevertsMegabyte,
            OddToken.Fault.BurnsGas
        ];
        for (uint256 i = 0; i < faults.length; ++i) {
            uint256 before = vm.snapshotState();
            Terms memory t = _running();
            _odd.setFault(faults[i]);
            _expectCredited(t);
            _stop(t, renter);
            assertEq(escrow.balanceOf(renter, address(_odd)), DEPOSIT - 1_000_000, "credited");
            assertEq(escrow.balanceOf(provider, address(_odd)), 900_000, "provider");
            vm.revertToState(before);
        }
    }

    /// @dev A long answer is not copied, which would take the caller's gas: nothing but the one word is.
    function test_ReturnBomb() public {
        OddToken.Fault[2] memory faults = [OddToken.Fault.ReturnsMegabyte, OddToken.Fault.RevertsMegabyte];
        for (uint256 i = 0; i < faults.length; ++i) {
            uint256 before = vm.snapshotState();
            Terms memory t = _running();
            _odd.setFault(faults[i]);
            _expectCredited(t);
            vm.prank(renter);
            uint256 gas = gasleft();
            escrow.stop(t);
            // 100,000 bytes are 29,000 gas of the token's; copied, they would be as much again of the escrow's.
            assertLt(gas - gasleft(), 230_000, "bounded gas");
            vm.revertToState(before);
        }
        (Wallet wallet, Terms memory native) = _walletRental("bomb");
        wallet.setManner(Wallet.Manner.ReturnsMegabyte);
        _stop(native, provider);
        assertEq(escrow.balanceOf(address(wallet), NATIVE), DEPOSIT - 1_000_000, "credited");
    }

    function test_Push_TokenWithoutCode_Credits() public {
        Terms memory t = _running();
        vm.etch(address(_odd), "");
        _expectCredited(t);
        _stop(t, renter);
    }

    function test_BlocklistedRenter() public {
        Terms memory t = _running();
        _odd.setBlocked(renter, true);
        _expectCredited(t);
        vm.prank(provider);
        escrow.stop(t);
        vm.prank(provider);
        escrow.withdraw(address(_odd), provider, 0);
        assertEq(_odd.balanceOf(provider), 900_000, "provider paid");
        // The renter's part waits, and goes wherever the renter says.
        vm.prank(renter);
        vm.expectRevert("blocked");
        escrow.withdraw(address(_odd), renter, 0);
        vm.prank(renter);
        escrow.withdraw(address(_odd), stranger, 0);
        assertEq(_odd.balanceOf(stranger), DEPOSIT - 1_000_000, "renter paid");
    }

    function test_BlocklistedProvider() public {
        Terms memory t = _running();
        _odd.setBlocked(provider, true);
        _stop(t, renter);
        assertEq(_odd.balanceOf(renter), DEPOSIT - 1_000_000, "renter refunded");
        vm.prank(provider);
        escrow.withdraw(address(_odd), stranger, 0);
        assertEq(_odd.balanceOf(stranger), 900_000, "provider paid elsewhere");
    }

    function test_Cancel_BlocklistedRenter_Credits() public {
        Terms memory t = _terms(address(_odd), "odd");
        bytes32 id = _lock(t, DEPOSIT);
        _odd.setBlocked(renter, true);
        vm.prank(provider);
        escrow.cancel(t);
        _assertStatus(id, Status.Closed);
        assertEq(escrow.balanceOf(renter, address(_odd)), DEPOSIT, "credited");
    }

    function test_NativeRefund_EachManner() public {
        Wallet.Manner[4] memory manners =
            [Wallet.Manner.Takes, Wallet.Manner.Refuses, Wallet.Manner.BurnsGas, Wallet.Manner.ReturnsMegabyte];
        for (uint256 i = 0; i < manners.length; ++i) {
            uint256 before = vm.snapshotState();
            (Wallet wallet, Terms memory t) = _walletRental("wallet");
            wallet.setManner(manners[i]);
            vm.prank(provider);
            uint256 gas = gasleft();
            escrow.stop(t);
            assertLt(gas - gasleft(), 150_000, "bounded gas");
            uint256 credited = i == 0 ? 0 : DEPOSIT - 1_000_000;
            assertEq(escrow.balanceOf(address(wallet), NATIVE), credited, "credited");
            assertEq(address(wallet).balance, DEPOSIT - 1_000_000 - credited, "pushed");
            if (credited != 0) {
                wallet.withdraw(escrow, stranger);
                assertEq(stranger.balance, credited, "withdrawn elsewhere");
            }
            vm.revertToState(before);
        }
    }

    /// @dev A batch pays everybody else although one renter's wallet refuses.
    function test_GasGrief_PushFails_Credits() public {
        (Wallet bad, Terms memory first) = _walletRental("bad");
        (Wallet good, Terms memory second) = _walletRental("good");
        bad.setManner(Wallet.Manner.BurnsGas);
        CloseItem[] memory items = new CloseItem[](2);
        items[0] = CloseItem(first, _now(), 0);
        items[1] = CloseItem(second, _now(), 0);
        vm.prank(operator);
        escrow.closeBatch(items, new EndSignatures[](0));
        assertEq(escrow.balanceOf(address(bad), NATIVE), DEPOSIT - 2_000_000, "credited");
        assertEq(address(good).balance, DEPOSIT - 1_000_000, "pushed");
    }

    /// @dev Native coin that nobody sent by `lock` changes no account; and nobody can send it in the plain way.
    function test_ForcedNative() public {
        vm.deal(address(this), 10 ether);
        new Forcer{value: 5 ether}(payable(address(escrow)));
        (bool sent,) = address(escrow).call{value: 1 ether}("");
        assertFalse(sent, "no receive");
        Terms memory t = _terms(NATIVE, "native");
        _activate(t, DEPOSIT);
        skip(1000);
        _stop(t, renter);
        assertEq(address(escrow).balance, 5 ether + 1_000_000, "held");
        assertEq(escrow.balanceOf(provider, NATIVE), 900_000, "provider");
        assertEq(renter.balance, 1e24 - 1_000_000, "renter");
    }

    /// @dev The same for tokens sent straight to the escrow.
    function test_SentTokens_ChangeNoAccount() public {
        usdc.mint(address(escrow), 5e6);
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        skip(1000);
        _stop(t, renter);
        _assertBalances(900_000, 100_000, 5e6 + 1_000_000);
    }

    /// @dev A fee that starts after the lock costs whoever is paid, not the other renters.
    function test_FeeOnTransfer_LaterOn() public {
        Terms memory t = _running();
        _odd.setFault(OddToken.Fault.TakesFee);
        _stop(t, renter);
        assertEq(_odd.balanceOf(renter), DEPOSIT - 1_000_000 - 1, "less the token's own fee");
        assertEq(_odd.balanceOf(address(escrow)), 1_000_000, "held for the others");
    }

    function _running() private returns (Terms memory t) {
        t = _terms(address(_odd), "odd");
        _activate(t, DEPOSIT);
        skip(1000);
    }

    function _expectCredited(Terms memory t) private {
        vm.expectEmit(address(escrow));
        emit IEscrow.Credited(t.renter, t.token, DEPOSIT - 1_000_000);
    }

    /// @dev A rental of a smart wallet that has run for 1,000 seconds.
    function _walletRental(bytes32 orderHash) private returns (Wallet wallet, Terms memory t) {
        wallet = new Wallet();
        vm.deal(address(wallet), DEPOSIT);
        t = _terms(NATIVE, orderHash);
        t.renter = address(wallet);
        wallet.lock(escrow, t, DEPOSIT);
        _start(t, _now());
        skip(1000);
    }
}
