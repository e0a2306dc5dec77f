// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, PrepaidItem, StartItem, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Wallet} from "./mocks/Receivers.sol";
import {SigningWallet} from "./mocks/SigningWallet.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice The largest batches at their dearest, within the gas that a transaction may have.
/// @dev Slots are cold, and counted in Polygon's price.
contract BatchCapTest is Fixture {
    uint256 private constant TX_GAS_CAP = 16_777_216;
    /// @dev What a cold slot costs more on Polygon than here.
    uint256 private constant COLDER = 5460 - 2100;

    struct Outcome {
        uint256 closed;
        uint256 credited;
        uint256 skipped;
        bytes4 reason;
    }

    /// @dev The dearest for honest tokens: no account has a balance, every renter and every provider is another one, and
    /// every slot becomes a tombstone.
    function test_Batch_SizeUnderTxCap() public {
        CloseItem[] memory items = _running(address(usdc), false);
        skip(800);
        Outcome memory o = _withinCap(abi.encodeCall(escrow.closeBatch, (items, new EndSignatures[](0))), items, 3);
        assertEq(o.closed, items.length, "each closed");
        assertEq(o.credited, 0, "no push short of gas");
    }

    /// @dev Every renter's wallet burns all the gas that the refund comes with.
    function test_CloseBatch_HostileNativeRenters() public {
        CloseItem[] memory items = _running(NATIVE, true);
        skip(800);
        Outcome memory o = _withinCap(abi.encodeCall(escrow.closeBatch, (items, new EndSignatures[](0))), items, 3);
        assertEq(o.closed, items.length, "each closed");
        assertEq(o.credited, items.length, "each credited");
    }

    function test_FinalizeBatch_HostileNativeRenters() public {
        CloseItem[] memory items = _running(NATIVE, true);
        skip(800);
        for (uint256 i = 0; i < items.length; ++i) {
            _close(items[i].terms, _now(), 100);
        }
        skip(24 hours + 1);
        Outcome memory o = _withinCap(abi.encodeCall(escrow.finalizeBatch, (_termsOf(items))), items, 3);
        assertEq(o.closed, items.length, "each closed");
        assertEq(o.credited, items.length, "each credited");
    }

    function test_StartAndReleaseBatch_SizeUnderTxCap() public {
        CloseItem[] memory items = _locked(address(usdc), false);
        StartItem[] memory starts = new StartItem[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            starts[i] = StartItem(items[i].terms, T0);
        }
        assertEq(_withinCap(abi.encodeCall(escrow.startBatch, (starts)), items, 1).skipped, 0, "each started");
        skip(800);
        bytes memory input = abi.encodeCall(escrow.releaseBatch, (_termsOf(items)));
        assertEq(_withinCap(input, items, 2).skipped, 0, "each released");
    }

    /// @dev Every renter and every provider is a smart wallet that burns all the gas of its check, the renter with a good
    /// answer in the end, so that both are asked.
    function test_CloseBatch_HostileSigners() public {
        CloseItem[] memory items = new CloseItem[](escrow.MAX_SIGNED_BATCH());
        EndSignatures[] memory signatures = new EndSignatures[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            Terms memory t = _terms(address(usdc), bytes32(i));
            (t.renter, t.provider) = (_slowSigner(true), _slowSigner(false));
            _fund(t.renter, usdc, DEPOSIT);
            _activate(t, DEPOSIT);
            items[i] = CloseItem(t, T0 + 800, 0);
            signatures[i] = EndSignatures(new bytes(65), new bytes(65));
        }
        skip(800);
        bytes memory input = abi.encodeCall(escrow.closeBatch, (items, signatures));
        Outcome memory o = _withinCap(input, items, 5);
        assertEq(o.skipped, items.length, "each skipped");
        assertEq(o.reason, IEscrow.BadSignature.selector, "reason");
    }

    /// @dev The same with good answers in the end: the dearest end that is paid.
    function test_CloseBatch_SlowSigners() public {
        CloseItem[] memory items = new CloseItem[](escrow.MAX_SIGNED_BATCH());
        EndSignatures[] memory signatures = new EndSignatures[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            Terms memory t = _terms(NATIVE, bytes32(i));
            (t.renter, t.provider) = (_slowSigner(true), _slowSigner(true));
            vm.deal(t.renter, DEPOSIT);
            _activate(t, DEPOSIT);
            items[i] = CloseItem(t, T0 + 800, 0);
            signatures[i] = EndSignatures(new bytes(65), new bytes(65));
        }
        skip(800);
        Outcome memory o = _withinCap(abi.encodeCall(escrow.closeBatch, (items, signatures)), items, 5);
        assertEq(o.closed, items.length, "each closed");
    }

    function test_LockBatch_HostileSigners() public {
        PrepaidItem[] memory items = new PrepaidItem[](escrow.MAX_SIGNED_BATCH());
        CloseItem[] memory ends = new CloseItem[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            Terms memory t = _terms(address(usdc), bytes32(i));
            SigningWallet wallet = new SigningWallet(stranger);
            wallet.setManner(SigningWallet.Manner.BurnsGas);
            t.renter = address(wallet);
            vm.prank(renter);
            escrow.prepay(t.renter, address(usdc), DEPOSIT);
            items[i] = PrepaidItem(t, DEPOSIT, new bytes(65));
            ends[i].terms = t;
        }
        Outcome memory o = _withinCap(abi.encodeCall(escrow.lockBatch, (items)), ends, 2);
        assertEq(o.skipped, items.length, "each skipped");
        assertEq(o.reason, IEscrow.BadSignature.selector, "reason");
    }

    /// @dev A smart wallet that burns the gas of a check and says yes with the last of it, or burns all.
    function _slowSigner(bool isGood) private returns (address) {
        SigningWallet wallet = new SigningWallet(stranger);
        wallet.setManner(isGood ? SigningWallet.Manner.AnswersAnything : SigningWallet.Manner.BurnsGas);
        if (isGood) wallet.setGas(95_000);
        return address(wallet);
    }

    function _locked(address token, bool isHostile) private returns (CloseItem[] memory items) {
        items = new CloseItem[](escrow.MAX_BATCH());
        for (uint256 i = 0; i < items.length; ++i) {
            Terms memory t = _terms(token, bytes32(i));
            t.renter = isHostile ? address(new Wallet()) : makeAddr(string.concat("renter", vm.toString(i)));
            t.provider = makeAddr(string.concat("provider", vm.toString(i)));
            if (token == NATIVE) vm.deal(t.renter, DEPOSIT);
            else _fund(t.renter, usdc, DEPOSIT);
            _lock(t, DEPOSIT);
            if (isHostile) Wallet(payable(t.renter)).setManner(Wallet.Manner.BurnsGas);
            items[i] = CloseItem(t, T0 + 800, 0);
        }
    }

    function _running(address token, bool isHostile) private returns (CloseItem[] memory items) {
        items = _locked(token, isHostile);
        for (uint256 i = 0; i < items.length; ++i) {
            _start(items[i].terms, T0);
        }
    }

    function _termsOf(CloseItem[] memory items) private pure returns (Terms[] memory t) {
        t = new Terms[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            t[i] = items[i].terms;
        }
    }

    /// @dev Sends the batch with all the gas that a transaction can have on Polygon, where each item has so many cold slots.
    function _withinCap(
        bytes memory input,
        CloseItem[] memory items,
        uint256 coldSlots
    )
        private
        returns (Outcome memory o)
    {
        uint256 intrinsic = 21_000;
        for (uint256 i = 0; i < input.length; ++i) {
            intrinsic += input[i] == 0 ? 4 : 16;
        }
        vm.cool(address(escrow));
        vm.cool(address(usdc));
        for (uint256 i = 0; i < items.length; ++i) {
            vm.cool(items[i].terms.renter);
            vm.cool(items[i].terms.provider);
        }
        vm.recordLogs();
        uint256 gas = TX_GAS_CAP - intrinsic - items.length * coldSlots * COLDER;
        vm.prank(operator);
        (bool success,) = address(escrow).call{gas: gas}(input);
        assertTrue(success, "within the cap");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IEscrow.Closed.selector) ++o.closed;
            if (logs[i].topics[0] == IEscrow.Credited.selector) ++o.credited;
            if (logs[i].topics[0] != IEscrow.Skipped.selector) continue;
            ++o.skipped;
            o.reason = abi.decode(logs[i].data, (bytes4));
        }
    }
}
