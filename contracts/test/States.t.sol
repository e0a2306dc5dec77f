// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../src/Escrow.sol";
import {EndSignatures, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Actions} from "../src/Lens.sol";
import {Fixture} from "./Fixture.sol";
import {Signer} from "./market/Signer.sol";
import {TestUSDC} from "./mocks/TestUSDC.sol";

/// @notice Signs agreed ends for the parties of the fixture.
contract Pen is Signer {
    constructor(Escrow escrow, TestUSDC usdc) Signer(escrow, usdc) {
        _newAccount("renter");
        _newAccount("provider");
    }

    function agreed(
        Terms memory t,
        bytes32 id,
        uint32 billedSecs,
        uint40 validUntil
    )
        external
        view
        returns (EndSignatures memory)
    {
        return _signBoth(t, id, billedSecs, validUntil);
    }
}

/// @notice Every state that a rental can be in, every call, every role: what `states.json` says is what happens, and what
/// `Lens.actions` says too.
contract StatesTest is Fixture {
    uint32 private constant HOLDBACK = 600;
    uint32 private constant CREDIT = 100;

    string private _json;
    string[] private _roles;
    string[] private _calls;
    Pen private _pen;
    mapping(string role => address) private _accountOf;

    function setUp() public override {
        super.setUp();
        // forge-lint: disable-next-line(unsafe-cheatcode) -- the one file that the profile allows
        _json = vm.readFile("test/states.json");
        _roles = vm.parseJsonStringArray(_json, ".roles");
        _calls = vm.parseJsonStringArray(_json, ".calls");
        _pen = new Pen(escrow, usdc);
        for (uint256 i = 0; i < _roles.length; ++i) {
            _accountOf[_roles[i]] = makeAddr(_roles[i]);
            _fund(_accountOf[_roles[i]], usdc, 1e12);
        }
        vm.prank(renter);
        escrow.setAgent(_accountOf["renterAgent"], T0 + 365 days);
        vm.prank(provider);
        escrow.setAgent(_accountOf["providerAgent"], T0 + 365 days);
    }

    function test_States() public {
        vm.pauseGasMetering();
        assertEq(_roles.length, 9, "roles");
        assertEq(_calls.length, 15, "calls");
        uint256 cells;
        uint256 i;
        for (; vm.keyExistsJson(_json, _path(i, "")); ++i) {
            (bool success, bytes memory answer) = address(this).call(abi.encodeCall(this.checkState, (i)));
            // It tells the cells that it checked by reverting, so that the next one begins anew.
            if (success || answer.length != 32) {
                assembly ("memory-safe") {
                    revert(add(answer, 0x20), mload(answer))
                }
            }
            cells += abi.decode(answer, (uint256));
            vm.warp(T0);
        }
        assertEq(i, 33, "states");
        assertEq(cells, 33 * 15 * 9, "cells");
    }

    /// @dev Reverts with the number of cells, or with what is wrong.
    function checkState(uint256 i) external {
        string memory name = vm.parseJsonString(_json, _path(i, ".name"));
        Terms memory t = _bring(name);
        Status status = escrow.rental(escrow.hashTerms(t)).status;
        assertEq(_nameOf(status), vm.parseJsonString(_json, _path(i, ".status")), name);
        uint256 cells;
        for (uint256 c = 0; c < _calls.length; ++c) {
            string memory path = _path(i, string.concat(".cells.", _calls[c]));
            bool isByRole = vm.keyExistsJson(_json, string.concat(path, ".else"));
            string memory expected = isByRole ? "" : vm.parseJsonString(_json, path);
            for (uint256 j = 0; j < _roles.length; ++j) {
                if (isByRole) {
                    string memory own = string.concat(path, ".", _roles[j]);
                    if (!vm.keyExistsJson(_json, own)) own = string.concat(path, ".else");
                    expected = vm.parseJsonString(_json, own);
                }
                string memory cell = string.concat(name, ": ", _calls[c], " by ", _roles[j]);
                _checkCell(t, _calls[c], _accountOf[_roles[j]], expected, cell);
                ++cells;
            }
        }
        _tell(bytes32(cells));
    }

    /// @dev Tells the status after a call, or the selector of its error.
    function tryCall(address by, bytes calldata data, bytes32 id) external {
        vm.prank(by);
        (bool success, bytes memory answer) = address(escrow).call(data);
        // forge-lint: disable-next-line(unsafe-typecast) -- a selector
        _tell(success ? bytes32(uint256(escrow.rental(id).status)) : bytes32(bytes4(answer)));
    }

    function _checkCell(
        Terms memory t,
        string memory call,
        address by,
        string memory expected,
        string memory cell
    )
        private
    {
        (bool isDone, bytes32 outcome) = _outcomeOf(expected, t);
        assertEq(_try(t, call, by), outcome, cell);
        _checkLens(call, lens.actions(t, by), isDone, cell);
    }

    function _try(Terms memory t, string memory call, address by) private returns (bytes32) {
        bytes32 id = escrow.hashTerms(t);
        bytes memory data = abi.encodeCall(this.tryCall, (by, _dataOf(call, t, id), id));
        (bool stays, bytes memory told) = address(this).call(data);
        assertFalse(stays, call);
        return abi.decode(told, (bytes32));
    }

    /// @dev What `tryCall` should tell where the file says `expected`: a status, or else the name of an error.
    function _outcomeOf(string memory expected, Terms memory t) private view returns (bool isDone, bytes32 outcome) {
        for (uint256 s = 0; s <= uint256(type(Status).max); ++s) {
            if (!_isSame(_nameOf(Status(s)), expected)) continue;
            // The slot of what ended after `startBy` is free again.
            return (true, bytes32(Status(s) == Status.Closed && _now() > t.startBy ? 0 : s));
        }
        outcome = bytes32(bytes4(keccak256(bytes(string.concat(expected, "()")))));
    }

    /// @dev Brings a rental into the state of that name, as `when` in the file describes it.
    function _bring(string memory name) private returns (Terms memory t) {
        t = _terms();
        if (_starts(name, "None")) return t;
        if (_starts(name, "Tombstone") || _isSame(name, "Cleared")) {
            _lock(t, DEPOSIT);
            if (_isSame(name, "Cleared")) vm.warp(t.startBy + 10 minutes + 1);
            vm.prank(provider);
            escrow.cancel(t);
            if (_isSame(name, "TombstoneLate")) vm.warp(t.startBy + 10 minutes + 1);
        } else if (_starts(name, "Locked")) {
            _lock(t, DEPOSIT);
            vm.warp(T0 + 100);
            if (_isSame(name, "LockedLate")) vm.warp(t.startBy + 1);
            if (_isSame(name, "LockedExpired")) vm.warp(t.startBy + 10 minutes + 1);
        } else if (_starts(name, "Active")) {
            if (!_isSame(name, "ActivePlain")) t.holdback = HOLDBACK;
            _activate(t, DEPOSIT);
            vm.warp(T0 + 300);
            if (_isSame(name, "ActiveDue")) vm.warp(T0 + HOLDBACK + 1);
            if (_isSame(name, "ActiveExhausted")) vm.warp(T0 + 10_000);
            if (_isSame(name, "ActiveAbandoned")) vm.warp(T0 + 10_000 + 10 minutes + 1);
        } else {
            _bringContested(name, t);
        }
    }

    function _bringContested(string memory name, Terms memory t) private {
        bool isBoth = _starts(name, "Both");
        bool isClaim = _starts(name, "Claim");
        if (isClaim || isBoth) t.holdback = HOLDBACK;
        bytes32 id = _activate(t, DEPOSIT);
        vm.warp(T0 + HOLDBACK + CREDIT);
        if (isClaim) _stop(t, provider);
        else _close(t, _now(), CREDIT);
        vm.warp(_now() + 50);
        if (!_ends(name, "Open") && !_ends(name, "Lapsed")) {
            bool byAll = _ends(name, "ByAll");
            if (isClaim || byAll || _ends(name, "ByRenter")) _dispute(t, renter);
            if (byAll || (isBoth ? _ends(name, "ByProvider") : !isClaim)) _dispute(t, provider);
        }
        uint40 deadline = escrow.rental(id).deadline;
        if (_has(name, "AtArbiter")) vm.warp(deadline - 14 days + 1);
        if (_ends(name, "Lapsed") || _has(name, "Defaulted")) vm.warp(deadline + 1);
    }

    function _dispute(Terms memory t, address by) private {
        vm.prank(by);
        escrow.dispute(t);
    }

    /// @dev Each call with arguments that are good wherever the call is.
    function _dataOf(string memory call, Terms memory t, bytes32 id) private view returns (bytes memory) {
        Rental memory r = escrow.rental(id);
        EndSignatures memory none;
        if (_isSame(call, "lock")) return abi.encodeCall(escrow.lock, (t, DEPOSIT));
        if (_isSame(call, "topUp")) return abi.encodeCall(escrow.topUp, (t, 1));
        if (_isSame(call, "start")) {
            return abi.encodeCall(escrow.start, (t, _now() < t.startBy ? _now() : t.startBy));
        }
        if (_isSame(call, "cancel")) return abi.encodeCall(escrow.cancel, (t));
        if (_isSame(call, "reclaim")) return abi.encodeCall(escrow.reclaim, (t));
        if (_isSame(call, "stop")) return abi.encodeCall(escrow.stop, (t));
        if (_isSame(call, "contest")) return abi.encodeCall(escrow.contest, (t, 1));
        if (_isSame(call, "close")) return abi.encodeCall(escrow.close, (t, _now(), 0, none));
        if (_isSame(call, "credit")) return abi.encodeCall(escrow.close, (t, _now(), CREDIT, none));
        if (_isSame(call, "closeAgreed")) {
            uint32 billed = r.settledSecs == 0 ? 1 : r.settledSecs;
            EndSignatures memory s = _pen.agreed(t, id, billed, _now());
            return abi.encodeCall(escrow.closeAgreed, (t, billed, _now(), s));
        }
        if (_isSame(call, "release")) return abi.encodeCall(escrow.release, (t));
        if (_isSame(call, "dispute")) return abi.encodeCall(escrow.dispute, (t));
        if (_isSame(call, "concede")) return abi.encodeCall(escrow.concede, (t));
        if (_isSame(call, "resolve")) {
            return abi.encodeCall(escrow.resolve, (t, r.renterDisputes ? r.contestedSecs : 0));
        }
        require(_isSame(call, "finalize"), call);
        return abi.encodeCall(escrow.finalize, (t));
    }

    /// @dev Of `lock`, of ends that are signed and of credits the lens tells nothing.
    function _checkLens(string memory call, Actions memory a, bool isDone, string memory cell) private pure {
        bool can;
        if (_isSame(call, "topUp")) can = a.topUp;
        else if (_isSame(call, "start")) can = a.start;
        else if (_isSame(call, "cancel")) can = a.cancel;
        else if (_isSame(call, "reclaim")) can = a.reclaim;
        else if (_isSame(call, "stop")) can = a.stop;
        else if (_isSame(call, "contest")) can = a.contestSecs != 0;
        else if (_isSame(call, "close")) can = a.close;
        else if (_isSame(call, "release")) can = a.releaseSecs != 0;
        else if (_isSame(call, "dispute")) can = a.dispute;
        else if (_isSame(call, "concede")) can = a.concede;
        else if (_isSame(call, "resolve")) can = a.resolve;
        else if (_isSame(call, "finalize")) can = a.finalize;
        else return;
        assertEq(can, isDone, string.concat("Lens, ", cell));
    }

    function _path(uint256 i, string memory rest) private pure returns (string memory) {
        return string.concat(".states[", vm.toString(i), "]", rest);
    }

    function _nameOf(Status status) private pure returns (string memory) {
        return ["None", "Locked", "Active", "Contested", "Closed"][uint256(status)];
    }

    function _isSame(string memory a, string memory b) private pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }

    function _has(string memory text, string memory part) private pure returns (bool) {
        return vm.indexOf(text, part) != type(uint256).max;
    }

    function _starts(string memory text, string memory part) private pure returns (bool) {
        return vm.indexOf(text, part) == 0;
    }

    function _ends(string memory text, string memory part) private pure returns (bool) {
        uint256 n = bytes(text).length;
        uint256 m = bytes(part).length;
        return n >= m && vm.indexOf(text, part) == n - m;
    }

    function _tell(bytes32 what) private pure {
        assembly ("memory-safe") {
            mstore(0, what)
            revert(0, 32)
        }
    }
}
