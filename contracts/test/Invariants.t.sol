// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, Rental, Status} from "../src/IEscrow.sol";
import {Preview} from "../src/Lens.sol";
import {Book} from "./market/Book.sol";
import {Steered} from "./market/Steered.sol";
import {Tally} from "./market/Tally.sol";

/// @notice What holds after any sequence of calls. What is a property of a single call is checked by the handler at each
/// (`Book`, `Batches`, `Market`) or at each event by the tally; here its verdict is asked for.
/// Each of the fifteen has its own runs: 15,000 calls in all by default, 120,000 in `ci`, 1,000,000 in `deep`.
/// forge-config: default.invariant.runs = 8
/// forge-config: default.invariant.depth = 128
/// forge-config: ci.invariant.runs = 8
/// forge-config: ci.invariant.depth = 1024
/// forge-config: deep.invariant.runs = 34
/// forge-config: deep.invariant.depth = 2048
/// forge-config: coverage.invariant.runs = 1
/// forge-config: coverage.invariant.depth = 128
contract InvariantsTest is Steered {
    function setUp() public override {
        super.setUp();
        targetContract(address(market));
        targetSelector(FuzzSelector(address(market), _selectors()));
    }

    /// @dev Of a run long enough to tell: those of `ci` are for about half of the handler's functions, those of `deep` for all.
    /// `MarketTest.test_Steered` tells of all at any time.
    function afterInvariant() public view {
        _summarize(24);
    }

    /// @dev The escrow holds what it owes for rentals, held parts included, and balances: not a unit more or less.
    function invariant_I1_BalancesAreObligations() public view {
        Book.Open[] memory live = market.live();
        address[] memory accounts = market.everybody();
        address[2] memory tokens = [NATIVE, address(usdc)];
        for (uint256 k = 0; k < 2; ++k) {
            uint256 owed;
            for (uint256 i = 0; i < live.length; ++i) {
                if (live[i].t.token == tokens[k]) owed += tally.heldOf(live[i].id);
            }
            for (uint256 i = 0; i < accounts.length; ++i) {
                owed += escrow.balanceOf(accounts[i], tokens[k]);
            }
            assertEq(k == 0 ? address(escrow).balance : usdc.balanceOf(address(escrow)), owed, "held is not owed");
        }
    }

    /// @dev Provider and treasury never have more than the clock says, and that is never more than the deposit.
    function invariant_I2_PaidWithinClockAndDeposit() public {
        _checkLive();
        _assertHolds(2);
    }

    /// @dev Fees are at most 15 %, and the floor of the cumulative gross at any time.
    function invariant_I3_FeeOfCumulativeGross() public {
        _checkLive();
        _assertHolds(3);
    }

    /// @dev net + fee + refund + held = deposit, over each rental's whole life.
    function invariant_I4_Conservation() public {
        _checkLive();
        _assertHolds(4);
    }

    /// @dev Settled seconds never fall, deposits rise by what is paid in alone.
    function invariant_I5_SettledAndDepositNeverFall() public view {
        Book.Open[] memory live = market.live();
        for (uint256 i = 0; i < live.length; ++i) {
            Rental memory r = escrow.rental(live[i].id);
            assertEq(r.settledSecs, tally.rental(live[i].id).settledSecs, "settled");
            assertEq(r.deposit, tally.life(live[i].id).deposit, "deposit");
        }
        _assertHolds(5);
    }

    /// @dev Rentals pay their renter, provider and the treasury; nobody else's money moves.
    function invariant_I6_PayeesAreThree() public {
        market.checkWallets();
        _assertHolds(6);
    }

    /// @dev An id is locked once at most.
    function invariant_I7_IdsLiveOnce() public view {
        bytes32[] memory ids = market.ids();
        for (uint256 i = 0; i < ids.length; ++i) {
            Tally.Life memory l = tally.life(ids[i]);
            assertEq(l.locks, 1, "locked once");
            Status status = escrow.rental(ids[i]).status;
            assertEq(l.ended, status == Status.None || status == Status.Closed, "ended for good");
        }
        _assertHolds(7);
    }

    /// @dev From wherever the market stands, time alone lets anybody end everything: tried and undone by the handler.
    function invariant_I8_TimeAloneEndsEverything() public view {
        _assertHolds(8);
    }

    /// @dev Exits with and without a pause give the same answer, events and money: tried and undone by the handler.
    function invariant_I9_PauseChangesNoExit() public view {
        _assertHolds(9);
    }

    /// @dev Each batch against its single calls: tried and undone by the handler.
    function invariant_I10_BatchIsItsSingles() public view {
        _assertHolds(10);
    }

    /// @dev Events alone rebuild rentals, balances, nonces, agents, roles, tokens and scheduled changes.
    function invariant_I11_ReplayIsStorage() public view {
        bytes32[] memory ids = market.ids();
        for (uint256 i = ids.length > 64 ? ids.length - 64 : 0; i < ids.length; ++i) {
            assertEq(abi.encode(tally.rental(ids[i])), abi.encode(escrow.rental(ids[i])), "rental");
        }
        address[] memory accounts = market.everybody();
        for (uint256 i = 0; i < accounts.length; ++i) {
            address a = accounts[i];
            assertEq(tally.balanceOf(a, NATIVE), escrow.balanceOf(a, NATIVE), "native");
            assertEq(tally.balanceOf(a, address(usdc)), escrow.balanceOf(a, address(usdc)), "ERC-20");
            assertEq(tally.nonces(a), escrow.nonces(a), "nonce");
            (address agent, uint40 expiresAt) = escrow.agentOf(a);
            (address replayed, uint40 until) = tally.agentOf(a);
            assertEq(replayed, agent, "agent");
            assertEq(until, expiresAt, "agent's expiry");
        }
        _assertRoles();
    }

    /// @dev No call of a role lowers anybody's money, in own hands or here: checked by the handler at each.
    function invariant_I12_RolesLowerNobodysMoney() public view {
        _assertHolds(12);
    }

    /// @dev The stored word of each open rental is its fields, each in its place, and nothing else.
    function invariant_I13_PackingIsLossless() public {
        Book.Open[] memory live = market.live();
        for (uint256 i = 0; i < live.length; ++i) {
            vm.record();
            Rental memory r = escrow.rental(live[i].id);
            (bytes32[] memory reads,) = vm.accesses(address(escrow));
            assertEq(reads.length, 1, "one word");
            uint256 flags = (r.renterDisputes ? 1 : 0) + (r.providerDisputes ? 2 : 0);
            uint256 since = r.status == Status.Contested ? r.claimSecs : r.since;
            // forge-lint: disable-next-line(unsafe-typecast) -- of 40 bits or 32
            uint40 narrow = uint40(since);
            // forge-lint: disable-next-line(unsafe-typecast) -- at most 3
            bytes2 tail = bytes2(uint16(flags << 8 | uint8(r.status)));
            bytes memory word = abi.encodePacked(r.deposit, narrow, r.settledSecs, r.contestedSecs, r.deadline, tail);
            // forge-lint: disable-next-line(unsafe-typecast) -- its 32 bytes
            assertEq(vm.load(address(escrow), reads[0]), bytes32(word), "packed");
        }
    }

    /// @dev At any second a locked rental can be started or reclaimed, never both: tried and undone by the handler.
    function invariant_I14_WindowsAreDisjoint() public view {
        _assertHolds(14);
    }

    /// @dev What would be billed never falls as time goes by, up to the deposit.
    function invariant_I15_GrossIsMonotone() public {
        Book.Open[] memory live = market.live();
        uint40 moment = _now();
        uint40[6] memory steps = [uint40(0), 1, 59, 1 hours, 31 days, 140 * 365 days];
        for (uint256 i = 0; i < live.length; ++i) {
            uint96 gross = 0;
            for (uint256 j = 0; j < steps.length; ++j) {
                vm.warp(moment + steps[j]);
                Preview memory p = lens.preview(live[i].t);
                assertGe(p.gross, gross, "gross fell");
                assertEq(uint256(p.net) + p.fee + p.refund, escrow.rental(live[i].id).deposit, "conserved");
                gross = p.gross;
            }
        }
        vm.warp(moment);
    }

    function _checkLive() private {
        Book.Open[] memory live = market.live();
        for (uint256 i = 0; i < live.length; ++i) {
            tally.check(live[i].id, _now());
        }
    }

    function _assertRoles() private view {
        assertEq(tally.treasury(), escrow.treasury(), "treasury");
        assertEq(tally.arbiter(), escrow.arbiter(), "arbiter");
        assertEq(tally.guardian(), escrow.guardian(), "guardian");
        assertEq(tally.owner(), escrow.owner(), "owner");
        address[3] memory tokens = [NATIVE, address(usdc), market.SPARE()];
        for (uint256 i = 0; i < 3; ++i) {
            (bool listed, bool paused) = escrow.tokenState(tokens[i]);
            (bool replayedListed, bool replayedPaused) = tally.tokenState(tokens[i]);
            assertTrue(listed == replayedListed && paused == replayedPaused, "token");
        }
        for (uint256 i = 0; i < 2; ++i) {
            string memory n = i == 0 ? "" : " 1";
            address one = _named("operator", n);
            assertEq(tally.isOperator(one), escrow.isOperator(one), "operator");
            _assertReadyAt(Change.AddOperator, one);
            _assertReadyAt(Change.SetTreasury, _named("treasury", n));
            _assertReadyAt(Change.SetArbiter, _named("arbiter", n));
            _assertReadyAt(Change.SetGuardian, _named("guardian", n));
        }
        _assertReadyAt(Change.ListToken, tokens[2]);
    }

    function _assertReadyAt(Change change, address subject) private view {
        assertEq(tally.readyAt(change, subject), escrow.readyAt(change, subject), "scheduled");
    }

    function _named(string memory name, string memory n) private pure returns (address) {
        return vm.addr(uint256(keccak256(bytes(string.concat(name, n)))));
    }
}
