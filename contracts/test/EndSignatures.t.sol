// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, Status, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";

/// @notice Nothing is held for a side that signed the end.
contract EndSignaturesTest is Signing {
    /// @dev What each pair of signatures leaves held after 2,000 seconds: settled, held in all, held for the renter.
    struct Held {
        bool byRenter;
        bool byProvider;
        uint32 holdback;
        uint32 credit;
        uint32 settled;
        uint32 contested;
        uint32 claim;
    }

    function test_Close_EachPairOfSignatures() public {
        Held[12] memory cases = [
            Held(false, false, 600, 100, 1300, 700, 600),
            Held(true, false, 600, 100, 1900, 100, 0),
            Held(false, true, 600, 100, 1300, 600, 600),
            Held(true, true, 600, 100, 1900, 0, 0),
            Held(false, false, 600, 0, 1400, 600, 600),
            Held(true, false, 600, 0, 2000, 0, 0),
            Held(false, true, 600, 0, 1400, 600, 600),
            Held(true, true, 600, 0, 2000, 0, 0),
            Held(false, false, 0, 100, 1900, 100, 0),
            Held(true, false, 0, 100, 1900, 100, 0),
            Held(false, true, 0, 100, 1900, 0, 0),
            Held(false, false, 0, 0, 2000, 0, 0)
        ];
        for (uint256 i = 0; i < cases.length; ++i) {
            uint256 before = vm.snapshotState();
            _assertCase(cases[i]);
            vm.revertToState(before);
        }
    }

    /// @dev In a batch each item has its own pair.
    function test_CloseBatch_EachItsOwn() public {
        CloseItem[] memory items = new CloseItem[](3);
        EndSignatures[] memory signatures = new EndSignatures[](3);
        bytes32[] memory ids = new bytes32[](3);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = CloseItem(_terms(address(usdc), bytes32(i)), T0 + 2000, 100);
            items[i].terms.holdback = 600;
            ids[i] = _activate(items[i].terms, DEPOSIT);
        }
        skip(2000);
        signatures[0] = _signed(items[0].terms, true, true);
        signatures[1] = _signed(items[1].terms, true, false);
        vm.prank(operator);
        escrow.closeBatch(items, signatures);
        _assertEnded(ids[0]);
        assertEq(escrow.rental(ids[1]).contestedSecs, 100, "the credit");
        assertEq(escrow.rental(ids[2]).contestedSecs, 700, "claim and credit");
        _assertBalances(1_710_000 * 2 + 1_170_000, 190_000 * 2 + 130_000, 1_900_000 + 2_000_000 * 2);
    }

    /// @dev A signature that is there must be good: the operator cannot send one of the other side's, or about another end.
    function test_Close_BadSignatures() public {
        Terms memory t = _running(600);
        EndSignatures memory good = _signed(t, true, true);
        _refusedClose(t, T0 + 2000, 100, EndSignatures(good.provider, good.renter));
        _refusedClose(t, T0 + 2000, 100, EndSignatures(good.provider, ""));
        _refusedClose(t, T0 + 2000, 100, EndSignatures("", good.renter));
        _refusedClose(t, T0 + 2000, 100, EndSignatures(good.renter, good.renter));
        _refusedClose(t, T0 + 2000, 100, EndSignatures("0", ""));
        _refusedClose(t, T0 + 2000, 99, good);
        _refusedClose(t, T0 + 2000, 101, good);
        _refusedClose(t, T0 + 1999, 100, good);
        Terms memory other = _terms(address(usdc), "other");
        _refusedClose(t, T0 + 2000, 100, _signed(other, true, true));
        bytes32 agreed = _agreedDigest(t, 1900, _now());
        _refusedClose(t, T0 + 2000, 100, EndSignatures(_signature(_key("renter"), agreed), ""));
        _close(t, T0 + 2000, 100, good);
        _refused(operator, abi.encodeCall(escrow.close, (t, T0 + 2000, 100, good)), IEscrow.NotActive.selector);
    }

    /// @dev Signatures make nobody else the operator.
    function test_Close_Signed_NotOperator() public {
        Terms memory t = _running(600);
        bytes memory input = abi.encodeCall(escrow.close, (t, T0 + 2000, 100, _signed(t, true, true)));
        _refused(renter, input, IEscrow.NotOperator.selector);
        _refused(provider, input, IEscrow.NotOperator.selector);
    }

    function _assertCase(Held memory c) private {
        Terms memory t = _running(c.holdback);
        bytes32 id = escrow.hashTerms(t);
        EndSignatures memory signatures;
        bytes32 digest = _endDigest(t, T0 + 2000, c.credit);
        if (c.byRenter) signatures.renter = _signature(_key("renter"), digest);
        if (c.byProvider) signatures.provider = _compact(_key("provider"), digest);
        _close(t, T0 + 2000, c.credit, signatures);
        uint256 settled = c.settled;
        uint256 contested = c.contested;
        assertEq(escrow.rental(id).contestedSecs, contested, "held");
        assertEq(escrow.rental(id).claimSecs, c.claim, "held for the renter");
        if (contested == 0) _assertEnded(id);
        else assertEq(escrow.rental(id).settledSecs, settled, "settled");
        _assertBalances(settled * 900, settled * 100, (settled + contested) * 1000);
        assertEq(usdc.balanceOf(renter), 1e12 - (settled + contested) * 1000, "renter");
        if (contested == 0) return;
        skip(24 hours + 1);
        escrow.finalize(t);
        uint256 billed = settled + c.claim;
        _assertBalances(billed * 900, billed * 100, billed * 1000);
        assertEq(usdc.balanceOf(renter), 1e12 - billed * 1000, "renter");
    }

    function _running(uint32 holdback) private returns (Terms memory t) {
        t = _terms();
        t.holdback = holdback;
        _activate(t, DEPOSIT);
        skip(2000);
    }

    /// @dev For a stop at 2,000 seconds with a credit of 100.
    function _signed(Terms memory t, bool byRenter, bool byProvider) private returns (EndSignatures memory s) {
        bytes32 digest = _endDigest(t, T0 + 2000, 100);
        if (byRenter) s.renter = _signature(_key("renter"), digest);
        if (byProvider) s.provider = _signature(_key("provider"), digest);
    }

    function _refusedClose(Terms memory t, uint40 stoppedAt, uint32 credit, EndSignatures memory signatures) private {
        bytes memory input = abi.encodeCall(escrow.close, (t, stoppedAt, credit, signatures));
        _refused(operator, input, IEscrow.BadSignature.selector);
        _assertStatus(escrow.hashTerms(t), Status.Active);
    }
}
