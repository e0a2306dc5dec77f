// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../../src/Escrow.sol";
import {Rental, Status, Terms} from "../../src/IEscrow.sol";
import {TestUSDC} from "../mocks/TestUSDC.sol";
import {Signer} from "./Signer.sol";
import {Tally} from "./Tally.sol";
import {Verdicts} from "./Verdicts.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice The people of the market, its open rentals, and how each call is made: its events go to the tally, a call
/// of a role must lower nobody's money, and a pause must change nothing about an exit.
abstract contract Book is Signer, Verdicts {
    struct Open {
        bytes32 id;
        Terms t;
    }

    struct Count {
        uint256 calls;
        uint256 useful;
    }

    address public constant NATIVE = address(0);
    /// @dev Where withdrawals go, and who does what anybody may do.
    address internal constant PURSE = address(0x9a55e);
    address internal constant RELAYER = address(0x5e1a7e5);
    uint256 internal constant POOL = 12;

    Tally public immutable TALLY;
    address internal immutable OWNER;
    address[3] internal _renters;
    address[2] internal _providers;
    address[2] internal _agents;
    address[2] internal _operators;
    address[2] internal _treasuries;
    address[2] internal _arbiters;
    address[2] internal _guardians;
    /// @dev Everybody who may have money here; nobody else may come to some.
    address[] private _everybody;
    mapping(address account => bool) internal _hasRole;
    mapping(address account => mapping(address token => uint256)) private _atFirst;
    uint256 private _supply;
    uint256 private _coins;
    uint256 private _minted;

    Open[] internal _live;
    bytes32[] private _ids;
    uint256 internal _orders;

    string[] private _kinds;
    mapping(string kind => Count) public counts;
    string private _kind;

    /// @dev A handler's function, one selector of the summary.
    modifier counted(string memory kind) {
        if (counts[kind].calls == 0) _kinds.push(kind);
        ++counts[kind].calls;
        _kind = kind;
        _;
    }

    constructor(Escrow escrow, TestUSDC usdc, Tally tally) Signer(escrow, usdc) {
        TALLY = tally;
        OWNER = escrow.owner();
        _hasRole[OWNER] = true;
        for (uint256 i = 0; i < 2; ++i) {
            _providers[i] = _newAccount(i == 0 ? "provider 0" : "provider 1");
            _agents[i] = _newAccount(i == 0 ? "agent 0" : "agent 1");
            _operators[i] = i == 0 ? makeAddr("operator") : makeAddr("operator 1");
            _treasuries[i] = i == 0 ? escrow.treasury() : makeAddr("treasury 1");
            _arbiters[i] = i == 0 ? escrow.arbiter() : makeAddr("arbiter 1");
            _guardians[i] = i == 0 ? escrow.guardian() : makeAddr("guardian 1");
            _hasRole[_operators[i]] = _hasRole[_arbiters[i]] = _hasRole[_guardians[i]] = true;
            _everybody.push(_providers[i]);
            _everybody.push(_treasuries[i]);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _renters[i] = _newAccount(["renter 0", "renter 1", "renter 2"][i]);
            _endow(_renters[i]);
        }
        _endow(RELAYER);
        _everybody.push(PURSE);
        // One renter's account has code that takes no native coin: what it gets back is credited.
        vm.etch(_renters[2], hex"5f5ffd");
        for (uint256 i = 0; i < _everybody.length; ++i) {
            _atFirst[_everybody[i]][NATIVE] = _everybody[i].balance;
            _atFirst[_everybody[i]][address(usdc)] = usdc.balanceOf(_everybody[i]);
            _coins += _everybody[i].balance;
            _supply += usdc.balanceOf(_everybody[i]);
        }
        _minted = usdc.totalSupply();
    }

    function live() external view returns (Open[] memory) {
        return _live;
    }

    /// @notice Ids of all rentals that ever were.
    function ids() external view returns (bytes32[] memory) {
        return _ids;
    }

    function everybody() external view returns (address[] memory) {
        return _everybody;
    }

    function kinds() external view returns (string[] memory) {
        return _kinds;
    }

    /// @notice What all accounts that may have money hold themselves, and what they should hold; and the sum of all.
    function checkWallets() external {
        for (uint256 k = 0; k < 2; ++k) {
            address token = k == 0 ? NATIVE : address(USDC);
            uint256 sum = _walletOf(address(ESCROW), token);
            for (uint256 i = 0; i < _everybody.length; ++i) {
                uint256 has = _walletOf(_everybody[i], token);
                sum += has;
                int256 should = int256(_atFirst[_everybody[i]][token]) + TALLY.moved(_everybody[i], token);
                // forge-lint: disable-next-line(unsafe-typecast) -- far below 2^255
                _hold(6, int256(has) == should, "somebody got or paid what no event says");
            }
            _hold(6, sum == (k == 0 ? _coins : _supply), "somebody else got money");
        }
        _hold(6, USDC.totalSupply() == _minted, "supply");
    }

    function _useful() internal {
        ++counts[_kind].useful;
    }

    /// @dev A call that must succeed; what it cannot do is this test's fault or the escrow's.
    function _must(address by, uint256 value, bytes memory data) internal {
        (bool success, bytes memory answer) = _send(by, value, data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    /// @dev A call that must be refused with this error.
    function _mustNot(address by, uint256 value, bytes memory data, bytes4 refusal) internal {
        (bool success, bytes memory answer) = _send(by, value, data);
        assertFalse(success, string.concat(_kind, ": not refused"));
        // forge-lint: disable-next-line(unsafe-typecast) -- four bytes are compared
        assertEq(bytes32(bytes4(answer)), bytes32(refusal), string.concat(_kind, ": refused for another reason"));
    }

    /// @dev Some call out of the escrow, which a pause must not change; a fourth of them is tried in both worlds.
    function _exit(address by, bytes memory data) internal {
        _twin(by, data);
        _must(by, 0, data);
    }

    function _exitMustNot(address by, bytes memory data, bytes4 refusal) internal {
        _twin(by, data);
        _mustNot(by, 0, data, refusal);
    }

    function _send(address by, uint256 value, bytes memory data) internal returns (bool success, bytes memory answer) {
        uint256[] memory before = _hasRole[by] ? _worths() : new uint256[](0);
        vm.recordLogs();
        vm.prank(by);
        (success, answer) = address(ESCROW).call{value: value}(data);
        // Of a call that reverts, forge records the events too.
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length && success; ++i) {
            if (logs[i].emitter == address(ESCROW)) TALLY.read(logs[i], _now());
        }
        if (before.length == 0) return (success, answer);
        uint256[] memory current = _worths();
        for (uint256 i = 0; i < before.length; ++i) {
            _hold(12, current[i] >= before[i], "a role lowered somebody's money");
        }
    }

    /// @notice Tells, by reverting with it, the answer, events and everybody's money of a call: nothing of it stays.
    function trial(address by, bytes calldata data, bool paused) external {
        _setPaused(NATIVE, paused);
        _setPaused(address(USDC), paused);
        vm.recordLogs();
        vm.prank(by);
        (bool success, bytes memory answer) = address(ESCROW).call(data);
        _tell(keccak256(abi.encode(success, answer, vm.getRecordedLogs(), _worths())));
    }

    /// @dev What a function of this contract tells by reverting: cheaper by far than a snapshot. The clock is put back.
    function _undone(bytes memory data) internal returns (bytes32 told) {
        uint40 moment = _now();
        (bool success, bytes memory answer) = address(this).call(data);
        assertTrue(!success && answer.length == 32, "a trial did not come to its end");
        if (moment != _now()) vm.warp(moment);
        return abi.decode(answer, (bytes32));
    }

    function _tell(bytes32 what) internal pure {
        assembly ("memory-safe") {
            mstore(0, what)
            revert(0, 32)
        }
    }

    function _setPaused(address token, bool paused) internal {
        vm.prank(OWNER);
        if (paused) ESCROW.pauseToken(token);
        else ESCROW.unpauseToken(token);
    }

    function _remember(Terms memory t) internal {
        bytes32 id = ESCROW.hashTerms(t);
        _live.push(Open(id, t));
        _ids.push(id);
    }

    /// @dev Drops what is closed from the open rentals.
    function _tidy() internal {
        for (uint256 i = _live.length; i > 0; --i) {
            Status status = ESCROW.rental(_live[i - 1].id).status;
            if (status != Status.None && status != Status.Closed) continue;
            bool isLate = _now() > _live[i - 1].t.startBy;
            _hold(7, status == (isLate ? Status.None : Status.Closed), "neither freed in time nor a tombstone");
            _live[i - 1] = _live[_live.length - 1];
            _live.pop();
        }
    }

    function _find(
        function(Open memory, Rental memory) view returns (bool) fits,
        uint256 seed
    )
        internal
        view
        returns (bool found, Open memory o, Rental memory r)
    {
        for (uint256 i = 0; i < _live.length; ++i) {
            o = _live[addmod(seed, i, _live.length)];
            r = ESCROW.rental(o.id);
            if (fits(o, r)) return (true, o, r);
        }
    }

    function _fundedUntil(Terms memory t, Rental memory r) internal pure returns (uint40) {
        uint256 secs = uint256(r.deposit) * 3600 / t.pricePerHour;
        return r.since + uint40(secs < type(uint32).max ? secs : type(uint32).max);
    }

    function _now() internal view returns (uint40) {
        return uint40(vm.getBlockTimestamp());
    }

    function _warpTo(uint256 moment) internal {
        if (moment > _now()) vm.warp(moment);
    }

    /// @dev Not forge-std's, for which the optimizer may take the time of the block before a warp.
    function _wait(uint256 secs) internal {
        vm.warp(_now() + secs);
    }

    /// @dev Of the numbers from `least` to `most`, one by `seed`; every eighth is the first or the last of them.
    function _within(uint256 seed, uint256 least, uint256 most) internal pure returns (uint256) {
        if (seed % 16 == 0) return least;
        if (seed % 16 == 1) return most;
        return least + seed / 16 % (most - least + 1);
    }

    function _mix(uint256 seed, string memory what) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, what)));
    }

    function _walletOf(address account, address token) internal view returns (uint256) {
        return token == NATIVE ? account.balance : USDC.balanceOf(account);
    }

    function _endow(address account) private {
        _everybody.push(account);
        USDC.mint(account, 1e30);
        vm.deal(account, 1e30);
        vm.startPrank(account);
        USDC.approve(address(ESCROW), type(uint256).max);
        USDC.approve(PERMIT2, type(uint256).max);
        vm.stopPrank();
    }

    function _twin(address by, bytes memory data) private {
        if (uint256(keccak256(abi.encode(data, _now()))) % 4 != 0) return;
        bytes32 paused = _undone(abi.encodeCall(this.trial, (by, data, true)));
        _hold(9, paused == _undone(abi.encodeCall(this.trial, (by, data, false))), "a pause changed an exit");
    }

    /// @dev Everybody's money, in own hands and here.
    function _worths() internal view returns (uint256[] memory worths) {
        uint256 n = _everybody.length;
        worths = new uint256[](4 * n);
        for (uint256 i = 0; i < n; ++i) {
            address account = _everybody[i];
            worths[4 * i] = account.balance;
            worths[4 * i + 1] = USDC.balanceOf(account);
            worths[4 * i + 2] = ESCROW.balanceOf(account, NATIVE);
            worths[4 * i + 3] = ESCROW.balanceOf(account, address(USDC));
        }
    }
}
