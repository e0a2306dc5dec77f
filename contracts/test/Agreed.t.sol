// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EndSignatures, IEscrow, Outcome, Status, Terms} from "../src/IEscrow.sol";
import {Disputed} from "./Disputed.sol";
import {SigningWallet} from "./mocks/SigningWallet.sol";

/// @notice Renter and provider agree on the billed time, and that is the end of it.
contract AgreedTest is Disputed {
    uint40 private constant UNTIL = T0 + 30 days;

    Terms private _running;
    bytes32 private _runningId;

    function setUp() public override {
        super.setUp();
        _running = _terms(address(usdc), "running");
        _running.holdback = 600;
        _runningId = _activate(_running, DEPOSIT);
        skip(1000);
    }

    function test_CloseAgreed_SentByAnyone() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(_runningId, Outcome.Agreed, 400, 360_000, 40_000, 9_600_000, true);
        vm.prank(stranger);
        escrow.closeAgreed(_running, 400, UNTIL, _both(_running, 400));
        _assertEnded(_runningId);
        _assertBalances(1_170_000 + 360_000, 130_000 + 40_000, 2_000_000 + 400_000);
    }

    /// @dev The caller's own consent need not be signed; the other's must.
    function test_CloseAgreed_ByEitherSide() public {
        address[2] memory who = [renter, provider];
        for (uint256 i = 0; i < who.length; ++i) {
            uint256 before = vm.snapshotState();
            EndSignatures memory signatures = _both(_running, 400);
            if (i == 0) signatures.renter = "";
            else signatures.provider = "";
            _refusedAgreed(who[1 - i], 400, signatures, IEscrow.BadSignature.selector);
            _refusedAgreed(stranger, 400, signatures, IEscrow.BadSignature.selector);
            _refusedAgreed(who[i], 400, EndSignatures("", ""), IEscrow.BadSignature.selector);
            vm.prank(who[i]);
            escrow.closeAgreed(_running, 400, UNTIL, signatures);
            _assertEnded(_runningId);
            vm.revertToState(before);
        }
    }

    function test_CloseAgreed_BadSignatures() public {
        EndSignatures memory good = _both(_running, 400);
        EndSignatures memory swapped = EndSignatures(good.provider, good.renter);
        _refusedAgreed(stranger, 400, swapped, IEscrow.BadSignature.selector);
        _refusedAgreed(stranger, 401, good, IEscrow.BadSignature.selector);
        _refusedAgreed(stranger, 400, _both(terms, 400), IEscrow.BadSignature.selector);
        // The caller's own, if it is there, must be good.
        _refusedAgreed(renter, 400, EndSignatures("0", good.provider), IEscrow.BadSignature.selector);
        // What is signed of an end is not signed of an agreement.
        bytes32 end = _endDigest(_running, _now(), 600);
        EndSignatures memory ends = EndSignatures(_signature(_key("renter"), end), _signature(_key("provider"), end));
        _refusedAgreed(stranger, 400, ends, IEscrow.BadSignature.selector);
        _assertStatus(_runningId, Status.Active);
    }

    /// @dev At least a second, at most what the clock says.
    function test_CloseAgreed_Active_PlusMinusOne() public {
        _refusedAgreed(stranger, 0, _both(_running, 0), IEscrow.AgreedSecsOutOfRange.selector);
        _refusedAgreed(stranger, 1001, _both(_running, 1001), IEscrow.AgreedSecsOutOfRange.selector);
        uint32[2] memory bounds = [uint32(1), 1000];
        for (uint256 i = 0; i < bounds.length; ++i) {
            uint256 before = vm.snapshotState();
            uint96 secs = bounds[i];
            vm.expectEmit(address(escrow));
            emit IEscrow.Closed(
                _runningId, Outcome.Agreed, bounds[i], secs * 900, secs * 100, DEPOSIT - secs * 1000, true
            );
            escrow.closeAgreed(_running, bounds[i], UNTIL, _both(_running, bounds[i]));
            vm.revertToState(before);
        }
    }

    function test_CloseAgreed_NotBelowSettled_PlusMinusOne() public {
        escrow.release(_running);
        _refusedAgreed(stranger, 399, _both(_running, 399), IEscrow.AgreedSecsOutOfRange.selector);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(_runningId, Outcome.Agreed, 400, 0, 0, 9_600_000, true);
        escrow.closeAgreed(_running, 400, UNTIL, _both(_running, 400));
    }

    function test_CloseAgreed_AfterExhaustion_PlusMinusOne() public {
        skip(1 days);
        _refusedAgreed(stranger, 10_001, _both(_running, 10_001), IEscrow.AgreedSecsOutOfRange.selector);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(_runningId, Outcome.Agreed, 10_000, 9_000_000, 1_000_000, 0, true);
        escrow.closeAgreed(_running, 10_000, UNTIL, _both(_running, 10_000));
    }

    /// @dev Of a contested rental: any split of the held seconds, disputed or not, before and after all deadlines.
    function test_CloseAgreed_Contested_PlusMinusOne() public {
        _refusedAgreed(terms, 1299, _both(terms, 1299), IEscrow.AgreedSecsOutOfRange.selector);
        _refusedAgreed(terms, 2001, _both(terms, 2001), IEscrow.AgreedSecsOutOfRange.selector);
        uint32[3] memory some = [uint32(1300), 1777, 2000];
        for (uint256 i = 0; i < some.length; ++i) {
            uint256 before = vm.snapshotState();
            if (i == 1) _dispute(provider);
            if (i == 2) vm.warp(DECIDED_BY + 1);
            _expectEnd(Outcome.Agreed, 2000 - some[i]);
            escrow.closeAgreed(terms, some[i], UNTIL, _both(terms, some[i]));
            _assertEnded(id);
            vm.revertToState(before);
        }
    }

    /// @dev Whoever signs first sets a time, and it is part of what is signed.
    function test_CloseAgreed_ValidUntil_PlusMinusOne() public {
        EndSignatures memory both = _both(_running, 400);
        vm.warp(UNTIL + 1);
        _refusedAgreed(stranger, 400, both, IEscrow.SignatureExpired.selector);
        bytes memory later = abi.encodeCall(escrow.closeAgreed, (_running, 400, UNTIL + 1, both));
        _refused(stranger, later, IEscrow.BadSignature.selector);
        vm.warp(UNTIL);
        escrow.closeAgreed(_running, 400, UNTIL, both);
        _assertEnded(_runningId);
    }

    function test_CloseAgreed_Replayed() public {
        EndSignatures memory both = _both(_running, 400);
        escrow.closeAgreed(_running, 400, UNTIL, both);
        _refusedAgreed(stranger, 400, both, IEscrow.NotActive.selector);
        Terms memory t = _terms(address(usdc), "waiting");
        both = _both(t, 1);
        _refusedAgreed(t, 1, both, IEscrow.NotActive.selector);
        _lock(t, DEPOSIT);
        _refusedAgreed(t, 1, both, IEscrow.NotActive.selector);
        vm.prank(provider);
        escrow.cancel(t);
        _refusedAgreed(t, 1, both, IEscrow.NotActive.selector);
    }

    function test_CloseAgreed_SmartWallets() public {
        SigningWallet wallet = new SigningWallet(stranger);
        Terms memory t = _terms(address(usdc), "wallets");
        t.provider = address(wallet);
        bytes32 walletId = _activate(t, DEPOSIT);
        skip(100);
        bytes32 digest = _agreedDigest(t, 50, UNTIL);
        EndSignatures memory both =
            EndSignatures(_compact(_key("renter"), digest), _signature(_key("stranger"), digest));
        escrow.closeAgreed(t, 50, UNTIL, both);
        _assertEnded(walletId);
        assertEq(escrow.balanceOf(address(wallet), address(usdc)), 45_000, "provider");
    }

    function _both(Terms memory t, uint32 secs) private returns (EndSignatures memory) {
        bytes32 digest = _agreedDigest(t, secs, UNTIL);
        return EndSignatures(_signature(_key("renter"), digest), _signature(_key("provider"), digest));
    }

    function _refusedAgreed(address from, uint32 secs, EndSignatures memory signatures, bytes4 error_) private {
        _refused(from, abi.encodeCall(escrow.closeAgreed, (_running, secs, UNTIL, signatures)), error_);
    }

    function _refusedAgreed(Terms memory t, uint32 secs, EndSignatures memory signatures, bytes4 error_) private {
        _refused(stranger, abi.encodeCall(escrow.closeAgreed, (t, secs, UNTIL, signatures)), error_);
    }
}
