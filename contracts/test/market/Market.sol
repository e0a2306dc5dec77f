// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../../src/Escrow.sol";
import {IEscrow, Preview, Rental, Status, Terms} from "../../src/IEscrow.sol";
import {TestUSDC} from "../mocks/TestUSDC.sol";
import {Test} from "forge-std/Test.sol";

/// @notice A small marketplace that only does what the escrow should allow, and checks each call's effect: the steered
/// handler of the invariants. Time passes in steps of mostly less than 10 minutes, and what the escrow should refuse is
/// asked for on purpose and must be refused.
contract Market is Test {
    uint256 private constant POOL = 12;
    address public constant NATIVE = address(0);
    /// @dev Where everybody withdraws to.
    address private constant PURSE = address(0x9a55e);

    Escrow public immutable ESCROW;
    TestUSDC public immutable USDC;
    address private immutable OWNER;
    address private immutable OPERATOR;

    /// @notice Rentals that are locked or active, and the ids of all that ever were.
    Terms[] private _live;
    bytes32[] private _ids;
    address[] private _accounts;
    uint256 private _orders;

    mapping(bytes32 id => uint32) private _settledSecs;
    mapping(bytes32 id => uint256) private _paid;
    /// @notice Calls of each kind that did what they are for.
    mapping(string kind => uint256) public done;

    constructor(Escrow escrow, TestUSDC usdc, address owner, address operator, address treasury) {
        ESCROW = escrow;
        USDC = usdc;
        OWNER = owner;
        OPERATOR = operator;
        string[5] memory names = ["renter 0", "renter 1", "renter 2", "provider 0", "provider 1"];
        for (uint256 i = 0; i < names.length; ++i) {
            address account = makeAddr(names[i]);
            _accounts.push(account);
            if (i >= 3) continue;
            usdc.mint(account, 1e30);
            vm.deal(account, 1e30);
            vm.prank(account);
            usdc.approve(address(escrow), type(uint256).max);
        }
        _accounts.push(treasury);
        // One renter's wallet takes no native coin: what it gets back is credited.
        vm.etch(_accounts[2], hex"5f5ffd");
    }

    function open(uint256 who, uint256 price, uint256 feeBps, uint256 holdback, uint256 secs) external {
        if (_live.length >= POOL) return;
        Terms memory t = Terms({
            renter: _accounts[who % 3],
            provider: _accounts[3 + who / 3 % 2],
            token: who / 6 % 2 == 0 ? address(USDC) : NATIVE,
            pricePerHour: uint96(bound(price, 1, 1e18)),
            feeBps: uint16(bound(feeBps, 0, 1500)),
            startBy: _now() + uint40(bound(who / 12, 0, 1 hours)),
            holdback: uint32(bound(holdback, 0, 1 hours)),
            orderHash: bytes32(++_orders)
        });
        uint96 deposit = uint96(bound(secs, 0, 4 hours) * t.pricePerHour / 3600 + bound(secs, 1, 1000));
        (, bool paused) = ESCROW.tokenState(t.token);
        if (paused) vm.expectRevert(IEscrow.TokenIsPaused.selector);
        vm.prank(t.renter);
        bytes32 id = ESCROW.lock{value: t.token == NATIVE ? deposit : 0}(t, deposit);
        if (paused) return;
        _live.push(t);
        _ids.push(id);
        ++done["open"];
    }

    function topUp(uint256 which, uint256 amount) external {
        if (_live.length == 0) return;
        Terms memory t = _pick(which);
        bytes32 id = ESCROW.hashTerms(t);
        uint96 more = uint96(bound(amount, 1, uint256(t.pricePerHour) + 1));
        (, bool paused) = ESCROW.tokenState(t.token);
        Rental memory before = ESCROW.rental(id);
        bool late =
            before.status == Status.Active ? _now() >= ESCROW.preview(t).fundedUntil : _now() > t.startBy + 10 minutes;
        if (paused || late) vm.expectRevert();
        vm.prank(t.renter);
        ESCROW.topUp{value: t.token == NATIVE ? more : 0}(t, more);
        if (paused || late) return;
        assertEq(ESCROW.rental(id).deposit, before.deposit + more, "topped up");
        ++done["topUp"];
    }

    /// @dev Starts a locked rental while that is possible, else gives it back.
    function begin(uint256 which, uint256 back) external {
        (bool found, Terms memory t) = _pickIn(Status.Locked, which);
        if (!found) return;
        uint40 latest = _now() < t.startBy ? _now() : t.startBy;
        uint40 lockedAt = ESCROW.rental(ESCROW.hashTerms(t)).since;
        uint40 earliest = _now() > lockedAt + 10 minutes ? _now() - 10 minutes : lockedAt;
        if (earliest > latest) return _reclaim(t);
        vm.prank(OPERATOR);
        ESCROW.start(t, latest - uint40(bound(back, 0, latest - earliest)));
        ++done["start"];
    }

    function cancel(uint256 which) external {
        (bool found, Terms memory t) = _pickIn(Status.Locked, which);
        if (!found || which % 3 != 0) return;
        vm.prank(which % 2 == 0 ? OPERATOR : t.provider);
        ESCROW.cancel(t);
        _forget(t);
        ++done["cancel"];
    }

    /// @dev By whoever may: the parties at any time, the operator within his window, anyone once the deposit is used up.
    function end(uint256 which, uint256 how, uint256 back, uint256 credit) external {
        (bool found, Terms memory t) = _pickIn(Status.Active, which);
        if (!found) return;
        Preview memory p = ESCROW.preview(t);
        uint256 before = _earned(t);
        if (how % 4 == 0) {
            uint40 since = ESCROW.rental(ESCROW.hashTerms(t)).since;
            uint40 earliest = since + 10 minutes > _now() ? since : _now() - 10 minutes;
            vm.prank(OPERATOR);
            ESCROW.close(t, _now() - uint40(bound(back, 0, _now() - earliest)), uint32(bound(credit, 0, 1200)));
            ++done["close"];
        } else {
            address by = how % 4 == 1 ? t.renter : how % 4 == 2 ? t.provider : address(this);
            if (by == address(this) && _now() < p.fundedUntil) {
                vm.expectRevert(IEscrow.NotRenterOrProvider.selector);
                return ESCROW.stop(t);
            }
            vm.prank(by);
            ESCROW.stop(t);
            ++done["stop"];
        }
        bytes32 id = ESCROW.hashTerms(t);
        _paid[id] += _earned(t) - before;
        assertLe(_paid[id], p.gross, "I2: no more than was due had it been stopped now");
        _forget(t);
    }

    function release(uint256 which) external {
        (bool found, Terms memory t) = _pickIn(Status.Active, which);
        if (!found) return;
        bytes32 id = ESCROW.hashTerms(t);
        uint256 age = _now() - ESCROW.rental(id).since;
        uint256 old = age > t.holdback ? age - t.holdback : 0;
        uint256 funded = uint256(ESCROW.rental(id).deposit) * 3600 / t.pricePerHour;
        if (old > funded) old = funded;
        uint256 before = _earned(t);
        if (old <= _settledSecs[id]) {
            vm.expectRevert(IEscrow.NothingToRelease.selector);
            return ESCROW.release(t);
        }
        ESCROW.release(t);
        assertEq(ESCROW.rental(id).settledSecs, old, "I5: settled rises to what is older than the holdback");
        _settledSecs[id] = ESCROW.rental(id).settledSecs;
        _paid[id] += _earned(t) - before;
        assertLe(_paid[id], ESCROW.preview(t).gross, "I2");
        ++done["release"];
    }

    function withdraw(uint256 who, bool native) external {
        address account = _accounts[who % _accounts.length];
        address token = native ? NATIVE : address(USDC);
        if (ESCROW.balanceOf(account, token) == 0) return;
        vm.prank(account);
        ESCROW.withdraw(token, PURSE, 0);
        assertEq(ESCROW.balanceOf(account, token), 0, "all of it");
        ++done["withdraw"];
    }

    /// @dev I7: whatever became of it, no id is locked twice.
    function lockAgain(uint256 which) external {
        if (_live.length == 0) return;
        Terms memory t = _pick(which);
        vm.prank(t.renter);
        (bool success,) = address(ESCROW).call{value: t.token == NATIVE ? 1 : 0}(abi.encodeCall(ESCROW.lock, (t, 1)));
        assertFalse(success, "I7: locked twice");
    }

    function pass(uint256 secs) external {
        skip(bound(secs, 0, secs % 16 == 0 ? 3 hours : 10 minutes));
    }

    /// @dev Pauses one token in four steps, opens it in the others.
    function pause(uint256 seed) external {
        address token = seed % 2 == 0 ? NATIVE : address(USDC);
        vm.prank(OWNER);
        if (seed % 8 < 2) ESCROW.pauseToken(token);
        else ESCROW.unpauseToken(token);
    }

    /// @notice What the escrow must hold of `token`: each live rental's deposit less what was paid of it, and each
    /// balance.
    function owed(address token) external view returns (uint256 sum) {
        for (uint256 i = 0; i < _live.length; ++i) {
            if (_live[i].token != token) continue;
            bytes32 id = ESCROW.hashTerms(_live[i]);
            sum += ESCROW.rental(id).deposit - _paid[id];
        }
        for (uint256 i = 0; i < _accounts.length; ++i) {
            sum += ESCROW.balanceOf(_accounts[i], token);
        }
    }

    function live() external view returns (Terms[] memory) {
        return _live;
    }

    function ids() external view returns (bytes32[] memory) {
        return _ids;
    }

    function accounts() external view returns (address[] memory) {
        return _accounts;
    }

    /// @notice Seconds that the handler saw settled.
    function settledSecs(bytes32 id) external view returns (uint32) {
        return _settledSecs[id];
    }

    function _reclaim(Terms memory t) private {
        if (_now() <= t.startBy + 10 minutes) {
            vm.expectRevert(IEscrow.ReclaimTooEarly.selector);
            return ESCROW.reclaim(t);
        }
        ESCROW.reclaim(t);
        _forget(t);
        ++done["reclaim"];
    }

    /// @dev What provider and treasury may withdraw together.
    function _earned(Terms memory t) private view returns (uint256) {
        return ESCROW.balanceOf(t.provider, t.token) + ESCROW.balanceOf(_accounts[5], t.token);
    }

    function _pick(uint256 which) private view returns (Terms memory) {
        return _live[which % _live.length];
    }

    function _pickIn(Status status, uint256 which) private view returns (bool, Terms memory t) {
        for (uint256 i = 0; i < _live.length; ++i) {
            t = _live[addmod(which, i, _live.length)];
            if (ESCROW.rental(ESCROW.hashTerms(t)).status == status) return (true, t);
        }
        return (false, t);
    }

    function _forget(Terms memory t) private {
        for (uint256 i = 0; i < _live.length; ++i) {
            if (_live[i].orderHash != t.orderHash) continue;
            _live[i] = _live[_live.length - 1];
            _live.pop();
            break;
        }
        Rental memory r = ESCROW.rental(ESCROW.hashTerms(t));
        assertTrue(r.status == (_now() > t.startBy ? Status.None : Status.Closed), "slot freed or tombstone");
        assertEq(r.deposit, 0, "nothing left");
        // I7: gone for good.
        vm.prank(t.renter);
        (bool success,) = address(ESCROW).call{value: t.token == NATIVE ? 1 : 0}(abi.encodeCall(ESCROW.lock, (t, 1)));
        assertFalse(success, "I7: locked twice");
    }

    function _now() private view returns (uint40) {
        return uint40(vm.getBlockTimestamp());
    }
}
