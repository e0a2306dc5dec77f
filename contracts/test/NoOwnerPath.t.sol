// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, CloseItem, EndSignatures, IEscrow, PrepaidItem, StartItem, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";

/// @notice Every function that changes anything, called by every role, on rentals in every state: nobody gains who is not
/// named in the terms, and nobody who is gets less than is due, or more.
contract NoOwnerPathTest is Signing {
    uint96 private constant PREPAID = 777;

    Terms private _running;
    Terms private _waiting;
    Terms private _held;
    Terms private _disputed;
    bytes[] private _calls;

    function setUp() public override {
        super.setUp();
        _waiting = _named("waiting");
        _lock(_waiting, DEPOSIT);
        _running = _named("running");
        _activate(_running, DEPOSIT);
        _held = _named("held");
        _activate(_held, DEPOSIT);
        _disputed = _named("disputed");
        _activate(_disputed, DEPOSIT);
        _prepay(renter, address(usdc), PREPAID);
        skip(1000);
        // Something released, something not: of 1,000 seconds 600 are held back.
        escrow.release(_running);
        _close(_held, T0 + 1000, 100);
        _close(_disputed, T0 + 1000, 100);
        vm.prank(provider);
        escrow.dispute(_disputed);
        vm.prank(renter);
        escrow.dispute(_disputed);
        vm.startPrank(owner);
        escrow.scheduleChange(Change.SetTreasury, stranger);
        escrow.scheduleChange(Change.AddOperator, stranger);
        vm.stopPrank();
        _everyCall();
    }

    /// @dev The list has each function of `IEscrow` that is not a view: an interface's id is all of its selectors, xored.
    function test_EveryCall_IsEveryFunction() public view {
        bytes4 all = escrow.rental.selector ^ escrow.hashTerms.selector ^ escrow.balanceOf.selector;
        all ^= escrow.nonces.selector ^ escrow.agentOf.selector ^ escrow.domainSeparator.selector;
        all ^= escrow.isOperator.selector ^ escrow.tokenState.selector ^ escrow.readyAt.selector;
        all ^= escrow.treasury.selector ^ escrow.arbiter.selector ^ escrow.guardian.selector;
        // Of OpenZeppelin's Ownable2Step.
        all ^= escrow.transferOwnership.selector ^ escrow.acceptOwnership.selector ^ escrow.renounceOwnership.selector;
        for (uint256 i = 0; i < _calls.length; ++i) {
            bool isFirst = true;
            for (uint256 j = 0; j < i && isFirst; ++j) {
                isFirst = bytes4(_calls[i]) != bytes4(_calls[j]);
            }
            if (isFirst) all ^= bytes4(_calls[i]);
        }
        assertEq(all, type(IEscrow).interfaceId, "each function, once");
    }

    function test_NoOwnerPathToFunds() public {
        address[5] memory roles = [owner, guardian, arbiter, operator, stranger];
        for (uint256 i = 0; i < roles.length; ++i) {
            for (uint256 j = 0; j < _calls.length; ++j) {
                _callAndCheck(roles[i], _calls[j]);
            }
        }
    }

    /// @dev Not even with the time that a change of roles takes gone by, and the deadlines over.
    function test_NoOwnerPathToFunds_Later() public {
        skip(48 hours);
        _enact(Change.SetTreasury, stranger);
        vm.prank(owner);
        escrow.executeChange(Change.AddOperator, stranger);
        address[5] memory roles = [owner, guardian, arbiter, operator, stranger];
        for (uint256 i = 0; i < roles.length; ++i) {
            for (uint256 j = 0; j < _calls.length; ++j) {
                _callAndCheck(roles[i], _calls[j]);
            }
        }
    }

    function _callAndCheck(address role, bytes memory input) private {
        uint256 before = vm.snapshotState();
        uint256 ofRenter = usdc.balanceOf(renter) + escrow.balanceOf(renter, address(usdc));
        uint256 ofProvider = escrow.balanceOf(provider, address(usdc));
        uint256 ofTreasury = escrow.balanceOf(treasury, address(usdc));
        vm.prank(role);
        (bool success,) = address(escrow).call(input);
        success;
        assertEq(usdc.balanceOf(role), 0, "a role is paid nothing");
        if (role != escrow.treasury()) assertEq(escrow.balanceOf(role, address(usdc)), 0, "nor credited");
        assertGe(usdc.balanceOf(renter) + escrow.balanceOf(renter, address(usdc)), ofRenter, "renter");
        assertGe(escrow.balanceOf(provider, address(usdc)), ofProvider, "provider");
        assertGe(escrow.balanceOf(treasury, address(usdc)), ofTreasury, "treasury");
        // At most what the clock says of all four.
        uint256 most = uint256(_now() - T0 > 10_000 ? 10_000 : _now() - T0) * PER_SEC + 2 * 1000 * PER_SEC;
        assertLe(escrow.balanceOf(provider, address(usdc)), most * 9 / 10, "not above what is due");
        assertEq(usdc.balanceOf(provider) + usdc.balanceOf(treasury), 0, "nobody withdraws for them");
        uint256 out = usdc.balanceOf(renter) - (1e12 - 4 * uint256(DEPOSIT) - PREPAID);
        assertEq(
            usdc.balanceOf(address(escrow)) + out, 4 * uint256(DEPOSIT) + PREPAID, "all that leaves is the renter's"
        );
        vm.revertToState(before);
    }

    function _named(bytes32 name) private view returns (Terms memory t) {
        t = _terms(address(usdc), name);
        t.holdback = 600;
    }

    function _everyCall() private {
        EndSignatures memory none;
        bytes memory empty;
        Terms[4] memory all = [_waiting, _running, _held, _disputed];
        for (uint256 i = 0; i < all.length; ++i) {
            Terms memory t = all[i];
            Terms[] memory one = new Terms[](1);
            one[0] = t;
            StartItem[] memory starts = new StartItem[](1);
            starts[0] = StartItem(t, T0 + 900);
            CloseItem[] memory ends = new CloseItem[](1);
            // The largest credit there is, and none.
            ends[0] = CloseItem(t, T0 + 1000, type(uint32).max);
            PrepaidItem[] memory prepaid = new PrepaidItem[](1);
            prepaid[0] = PrepaidItem(t, PREPAID, "");
            _calls.push(abi.encodeCall(escrow.lock, (t, 1)));
            _calls.push(abi.encodeCall(escrow.lockWithPermit, (t, 1, T0, 27, 0, 0)));
            _calls.push(abi.encodeCall(escrow.lockWithAuthorization, (t, 1, 0, type(uint256).max, new bytes(65))));
            _calls.push(abi.encodeCall(escrow.lockWithPermit2, (t, 1, 0, type(uint256).max, new bytes(65))));
            _calls.push(abi.encodeCall(escrow.lockPrepaid, (t, PREPAID, empty)));
            _calls.push(abi.encodeCall(escrow.lockBatch, (prepaid)));
            _calls.push(abi.encodeCall(escrow.topUp, (t, 1)));
            _calls.push(abi.encodeCall(escrow.start, (t, T0 + 900)));
            _calls.push(abi.encodeCall(escrow.startBatch, (starts)));
            _calls.push(abi.encodeCall(escrow.stop, (t)));
            _calls.push(abi.encodeCall(escrow.contest, (t, 600)));
            _calls.push(abi.encodeCall(escrow.close, (t, T0 + 1000, 0, none)));
            _calls.push(abi.encodeCall(escrow.close, (t, T0 + 1000, type(uint32).max, none)));
            _calls.push(abi.encodeCall(escrow.closeBatch, (ends, new EndSignatures[](0))));
            _calls.push(abi.encodeCall(escrow.closeAgreed, (t, 1, T0 + 30 days, none)));
            _calls.push(abi.encodeCall(escrow.cancel, (t)));
            _calls.push(abi.encodeCall(escrow.reclaim, (t)));
            _calls.push(abi.encodeCall(escrow.release, (t)));
            _calls.push(abi.encodeCall(escrow.releaseBatch, (one)));
            _calls.push(abi.encodeCall(escrow.dispute, (t)));
            _calls.push(abi.encodeCall(escrow.concede, (t)));
            _calls.push(abi.encodeCall(escrow.resolve, (t, 0)));
            _calls.push(abi.encodeCall(escrow.resolve, (t, 700)));
            _calls.push(abi.encodeCall(escrow.finalize, (t)));
            _calls.push(abi.encodeCall(escrow.finalizeBatch, (one)));
        }
        address token = address(usdc);
        _calls.push(abi.encodeCall(escrow.withdraw, (token, stranger, 0)));
        _calls.push(abi.encodeCall(escrow.withdraw, (token, stranger, 1)));
        _calls.push(abi.encodeCall(escrow.withdrawBySig, (provider, token, stranger, 0, T0 + 1 days, new bytes(65))));
        _calls.push(abi.encodeCall(escrow.withdrawBySig, (provider, token, stranger, 0, T0 + 1 days, empty)));
        _calls.push(abi.encodeCall(escrow.prepay, (stranger, token, 1)));
        _calls.push(abi.encodeCall(escrow.setAgent, (stranger, T0 + 30 days)));
        _calls.push(abi.encodeCall(escrow.scheduleChange, (Change.SetTreasury, stranger)));
        _calls.push(abi.encodeCall(escrow.executeChange, (Change.SetTreasury, stranger)));
        _calls.push(abi.encodeCall(escrow.cancelChange, (Change.SetTreasury, stranger)));
        _calls.push(abi.encodeCall(escrow.removeOperator, (operator)));
        _calls.push(abi.encodeCall(escrow.removeArbiter, ()));
        _calls.push(abi.encodeCall(escrow.pauseToken, (token)));
        _calls.push(abi.encodeCall(escrow.unpauseToken, (token)));
        _calls.push(abi.encodeCall(escrow.transferOwnership, (stranger)));
        _calls.push(abi.encodeCall(escrow.acceptOwnership, ()));
        _calls.push(abi.encodeCall(escrow.renounceOwnership, ()));
    }
}
