// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EndSignatures, IEscrow, Outcome, Status, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Whatever a rental's life: all that was paid is all that was deposited, and the fee is that of the whole gross.
contract ConservationTest is Signing {
    struct Life {
        uint96 price;
        uint96 deposit;
        uint96 topUp;
        uint16 feeBps;
        uint32 holdback;
        uint32 credit;
        uint32 firstSecs;
        uint32 lastSecs;
        uint32 share;
        uint8 end;
        uint8 sequel;
    }

    /// @dev What the events of a life say that was paid.
    struct Paid {
        uint256 net;
        uint256 fee;
        uint256 refund;
        uint256 billedSecs;
    }

    function testFuzz_Life_Conserves(Life memory life) public {
        Terms memory t = _bound(life);
        usdc.mint(renter, uint256(life.deposit) + life.topUp);
        uint256 had = usdc.balanceOf(renter);
        vm.recordLogs();
        bytes32 id = _activate(t, life.deposit);
        skip(life.firstSecs);
        _try(stranger, abi.encodeCall(escrow.release, (t)));
        if (life.topUp != 0) _try(renter, abi.encodeCall(escrow.topUp, (t, life.topUp)));
        uint256 deposit = escrow.rental(id).deposit;
        skip(life.lastSecs);
        if (life.share % 2 == 0) _try(stranger, abi.encodeCall(escrow.release, (t)));
        _end(t, life);
        if (escrow.rental(id).status == Status.Contested) {
            _assertHeld(t, id);
            _sequel(t, life);
        }
        _assertEnded(id);
        Paid memory paid = _paid();
        uint256 gross = paid.billedSecs * t.pricePerHour / 3600;
        if (gross > deposit) gross = deposit;
        uint256 fee = gross * t.feeBps / 10_000;
        assertEq(paid.fee, fee, "the fee of the cumulative gross");
        assertEq(paid.net, gross - fee, "net");
        assertEq(paid.refund, deposit - gross, "refund");
        _assertBalances(gross - fee, fee, gross);
        assertEq(usdc.balanceOf(renter), had - gross, "renter");
    }

    function _end(Terms memory t, Life memory life) private {
        uint256 how = life.end % 6;
        if (how == 2 && t.holdback != 0) {
            _try(renter, abi.encodeCall(escrow.contest, (t, 1 + life.share % t.holdback)));
            // There is nothing to contest in the first second.
            if (escrow.rental(escrow.hashTerms(t)).status == Status.Contested) return;
        }
        if (how == 0 || how == 2) _stop(t, renter);
        else if (how == 1) _stop(t, provider);
        else if (how == 3) _agree(t, lens.preview(t).billedSecs);
        else if (how == 4) _close(t, _now(), life.credit, _signed(t, life));
        else _close(t, _now(), life.credit);
    }

    function _sequel(Terms memory t, Life memory life) private {
        uint32 settled = escrow.rental(escrow.hashTerms(t)).settledSecs;
        uint32 held = escrow.rental(escrow.hashTerms(t)).contestedSecs;
        uint256 how = life.sequel % 6;
        if (how == 1) return _must(renter, abi.encodeCall(escrow.concede, (t)));
        if (how == 2) return _must(provider, abi.encodeCall(escrow.concede, (t)));
        if (how == 3) return _agree(t, settled + uint32(bound(life.share, 0, held)));
        if (how > 3) {
            _try(renter, abi.encodeCall(escrow.dispute, (t)));
            _try(provider, abi.encodeCall(escrow.dispute, (t)));
        }
        if (how == 4) return _must(arbiter, abi.encodeCall(escrow.resolve, (t, uint32(bound(life.share, 0, held)))));
        skip(15 days + 1);
        _must(stranger, abi.encodeCall(escrow.finalize, (t)));
    }

    /// @dev While something is held, the escrow has exactly that besides what is earned.
    function _assertHeld(Terms memory t, bytes32 id) private view {
        uint256 deposit = escrow.rental(id).deposit;
        uint256 settled = escrow.rental(id).settledSecs;
        uint256 upTo = (settled + escrow.rental(id).contestedSecs) * t.pricePerHour / 3600;
        if (upTo > deposit) upTo = deposit;
        assertEq(usdc.balanceOf(address(escrow)), upTo, "what is paid, credited and held");
        uint256 earned = escrow.balanceOf(provider, address(usdc)) + escrow.balanceOf(treasury, address(usdc));
        uint256 gross = settled * t.pricePerHour / 3600;
        assertEq(earned, gross > deposit ? deposit : gross, "settled");
    }

    function _agree(Terms memory t, uint32 secs) private {
        bytes32 digest = _agreedDigest(t, secs, _now());
        EndSignatures memory both =
            EndSignatures(_signature(_key("renter"), digest), _signature(_key("provider"), digest));
        escrow.closeAgreed(t, secs, _now(), both);
    }

    function _signed(Terms memory t, Life memory life) private returns (EndSignatures memory s) {
        bytes32 digest = _endDigest(t, _now(), life.credit);
        if (life.share % 3 != 0) s.renter = _signature(_key("renter"), digest);
        if (life.share % 3 != 1) s.provider = _signature(_key("provider"), digest);
    }

    function _try(address from, bytes memory input) private {
        vm.prank(from);
        (bool success, bytes memory reason) = address(escrow).call(input);
        assertTrue(success || reason.length == 4, "done, or refused by name");
    }

    function _must(address from, bytes memory input) private {
        vm.prank(from);
        (bool success,) = address(escrow).call(input);
        assertTrue(success, "done");
    }

    function _paid() private returns (Paid memory paid) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint96 net;
        uint96 fee;
        uint96 refund;
        for (uint256 i = 0; i < logs.length; ++i) {
            (net, fee, refund) = (0, 0, 0);
            if (logs[i].topics[0] == IEscrow.Released.selector) {
                (, net, fee) = abi.decode(logs[i].data, (uint32, uint96, uint96));
            } else if (logs[i].topics[0] == IEscrow.Contested.selector) {
                (,,,,,, net, fee, refund,) = abi.decode(
                    logs[i].data, (Outcome, uint32, uint32, uint32, uint40, bool, uint96, uint96, uint96, bool)
                );
            } else if (logs[i].topics[0] == IEscrow.Closed.selector) {
                (, paid.billedSecs, net, fee, refund,) =
                    abi.decode(logs[i].data, (Outcome, uint256, uint96, uint96, uint96, bool));
            }
            paid.net += net;
            paid.fee += fee;
            paid.refund += refund;
        }
    }

    /// @dev Prices at which a second is worth less than a unit, and at which the deposit is gone at once, too.
    function _bound(Life memory life) private view returns (Terms memory t) {
        life.deposit = uint96(bound(life.deposit, 1, life.deposit % 2 == 0 ? 1e6 : type(uint88).max));
        life.topUp = uint96(bound(life.topUp, 0, life.deposit));
        uint256 dearest = life.price % 2 == 0 ? uint256(life.deposit) * 2 + 1 : uint256(life.deposit) / 100 + 1;
        t = _terms();
        t.pricePerHour = uint96(bound(life.price, 1, dearest));
        t.feeBps = uint16(bound(life.feeBps, 0, 1500));
        t.holdback = uint32(bound(life.holdback, 0, 7200));
        life.credit = uint32(bound(life.credit, 0, 20_000));
        life.firstSecs = uint32(bound(life.firstSecs, 0, 20_000));
        life.lastSecs = uint32(bound(life.lastSecs, 0, 20_000));
    }
}
