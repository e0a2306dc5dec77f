// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, IEscrow, StartItem} from "../../src/IEscrow.sol";
import {Disputes} from "./Disputes.sol";

/// @notice What is not about one rental: money out, agents, pauses, changes behind the delay, and time.
abstract contract Office is Disputes {
    /// @dev A token that is never used, for the list.
    address public immutable SPARE = address(new Spare());

    function withdraw(uint128 seed) external counted("withdraw") {
        (address account, address token, uint256 balance) = _someBalance(seed, 7);
        uint96 amount = seed % 3 == 0 ? 0 : uint96(_within(_mix(seed, "amount"), 1, balance));
        _exit(account, abi.encodeCall(ESCROW.withdraw, (token, PURSE, amount)));
        _useful();
    }

    /// @dev The same signature a second time is refused.
    function withdrawBySig(uint128 seed) external counted("withdrawBySig") {
        (address account, address token, uint256 balance) = _someBalance(seed, 5);
        uint96 amount = uint96(_within(_mix(seed, "amount"), 1, balance));
        uint256 until = _now() + seed % 2;
        bytes memory signature = _signWithdrawal(account, token, PURSE, amount, until);
        bytes memory data = abi.encodeCall(ESCROW.withdrawBySig, (account, token, PURSE, amount, until, signature));
        _exit(RELAYER, data);
        _exitMustNot(RELAYER, data, IEscrow.BadSignature.selector);
        _useful();
    }

    function setAgent(uint128 seed) external counted("setAgent") {
        address account = seed % 2 == 0 ? _renters[seed % 3] : _providers[seed / 2 % 2];
        bool isNobody = seed % 8 == 7;
        uint40 expiresAt = isNobody ? 0 : _now() + uint40(_within(_mix(seed, "until"), 0, 2 days));
        address agent = isNobody ? address(0) : _agents[_mix(seed, "agent") % 2];
        _exit(account, abi.encodeCall(ESCROW.setAgent, (agent, expiresAt)));
        _useful();
    }

    function pause(uint128 seed) external counted("pause") {
        address by = seed % 2 == 0 ? OWNER : ESCROW.guardian();
        _must(by, 0, abi.encodeCall(ESCROW.pauseToken, (seed % 4 < 2 ? NATIVE : address(USDC))));
        _useful();
    }

    function unpause(uint128 seed) external counted("unpause") {
        _must(OWNER, 0, abi.encodeCall(ESCROW.unpauseToken, (seed % 2 == 0 ? NATIVE : address(USDC))));
        _useful();
    }

    function schedule(uint128 seed) external counted("schedule") {
        _schedule(seed);
        _useful();
    }

    /// @dev The first that is scheduled; too early, now and then, and too late, which is refused.
    function execute(uint128 seed) external counted("execute") {
        (bool found, Change change, address subject) = _scheduled(seed);
        if (!found) (change, subject) = _schedule(seed);
        uint40 readyAt = ESCROW.readyAt(change, subject);
        bytes memory data = abi.encodeCall(ESCROW.executeChange, (change, subject));
        if (_now() < readyAt) {
            if (seed % 4 == 1) _mustNot(OWNER, 0, data, IEscrow.ChangeTooEarly.selector);
            _warpTo(readyAt);
        } else if (_now() > readyAt + 14 days) {
            _mustNot(OWNER, 0, data, IEscrow.ChangeTooLate.selector);
            return _must(OWNER, 0, abi.encodeCall(ESCROW.cancelChange, (change, subject)));
        }
        _must(OWNER, 0, data);
        _useful();
    }

    function cancelChange(uint128 seed) external counted("cancelChange") {
        (bool found, Change change, address subject) = _scheduled(seed);
        if (!found) (change, subject) = _schedule(seed);
        bytes memory data = abi.encodeCall(ESCROW.cancelChange, (change, subject));
        _must(OWNER, 0, data);
        _mustNot(OWNER, 0, data, IEscrow.ChangeNotScheduled.selector);
        _useful();
    }

    /// @dev One of two: the market goes on. Where both are gone is tried by the probe of I8.
    function removeOperator(uint128 seed) external counted("removeOperator") {
        address gone = _operator(seed);
        if (_operator(0) == _operator(1)) gone = gone == _operators[0] ? _operators[1] : _operators[0];
        _must(seed % 2 == 0 ? OWNER : ESCROW.guardian(), 0, abi.encodeCall(ESCROW.removeOperator, (gone)));
        _mustNot(gone, 0, abi.encodeCall(ESCROW.startBatch, (_noItems())), IEscrow.NotOperator.selector);
        _useful();
    }

    /// @dev The arbiter of before then decides nothing.
    function removeArbiter(uint128 seed) external counted("removeArbiter") {
        _needArbiter(seed);
        (Open memory o,) = _someContested(seed);
        address gone = ESCROW.arbiter();
        _must(seed % 2 == 0 ? OWNER : ESCROW.guardian(), 0, abi.encodeCall(ESCROW.removeArbiter, ()));
        _exitMustNot(gone, abi.encodeCall(ESCROW.resolve, (o.t, 0)), IEscrow.NotArbiter.selector);
        _useful();
    }

    /// @dev Mostly some minutes.
    function pass(uint128 seed) external counted("pass") {
        uint256 kind = _mix(seed, "kind") % 32;
        _wait(_within(seed, 1, kind == 0 ? 16 days : kind < 4 ? 30 hours : kind < 8 ? 3 hours : 10 minutes));
        _useful();
    }

    /// @dev Somebody with a balance among the first `n`; where nobody has one, somebody is given one.
    function _someBalance(uint256 seed, uint256 n) private returns (address account, address token, uint256 balance) {
        address[7] memory accounts =
            [_renters[0], _renters[1], _renters[2], _providers[0], _providers[1], _treasuries[0], _treasuries[1]];
        uint256 from = seed % (2 * n);
        for (uint256 i = 0; i < 2 * n && balance == 0; ++i) {
            uint256 place = (from + i) % (2 * n);
            account = accounts[place / 2];
            token = place % 2 == 0 ? NATIVE : address(USDC);
            balance = ESCROW.balanceOf(account, token);
        }
        if (balance != 0) return (account, token, balance);
        token = _openToken(seed);
        balance = 1e6 + seed % 1e6;
        // forge-lint: disable-next-line(unsafe-typecast) -- below 2e6
        _prepay(RELAYER, account, token, uint96(balance));
    }

    function _schedule(uint256 seed) private returns (Change change, address subject) {
        change = Change(_mix(seed, "change") % 5);
        subject = _subjectOf(change, seed);
        _must(OWNER, 0, abi.encodeCall(ESCROW.scheduleChange, (change, subject)));
    }

    function _scheduled(uint256 seed) private view returns (bool found, Change change, address subject) {
        for (uint256 i = 0; i < 10; ++i) {
            change = Change(addmod(seed, i, 5));
            subject = _subjectOf(change, addmod(seed, i, 10));
            if (ESCROW.readyAt(change, subject) != 0) return (true, change, subject);
        }
    }

    function _subjectOf(Change change, uint256 seed) private view returns (address) {
        if (change == Change.ListToken) return SPARE;
        if (change == Change.AddOperator) return _operators[seed % 2];
        if (change == Change.SetTreasury) return _treasuries[seed % 2];
        if (change == Change.SetArbiter) return _arbiters[seed % 2];
        return _guardians[seed % 2];
    }

    function _noItems() private pure returns (StartItem[] memory) {}
}

/// @notice Code at an address, to be listed.
contract Spare {}
