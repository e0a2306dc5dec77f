// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, IEscrow} from "./IEscrow.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @notice Who holds which role at the beginning, and which tokens are taken; 0 among the tokens is the native coin.
struct Config {
    address owner;
    address guardian;
    address treasury;
    address arbiter;
    address[] operators;
    address[] tokens;
}

/// @title Who may do what, and which tokens are taken
/// @dev None of these calls reads or writes a rental or a balance. Whatever gives somebody new power takes the owner
/// `CHANGE_DELAY`, in which everybody can see it coming; whatever takes power away is done at once.
abstract contract Governed is IEscrow, Ownable2Step {
    struct TokenState {
        bool listed;
        bool paused;
    }

    /// @notice Seconds between scheduling a change and making it, at least.
    uint40 public constant CHANGE_DELAY = 48 hours;
    /// @notice Seconds after that in which it can be made.
    uint40 public constant CHANGE_GRACE = 14 days;

    mapping(address account => bool) public override isOperator;
    mapping(address token => TokenState) public override tokenState;
    mapping(Change change => mapping(address subject => uint40)) public override readyAt;
    address public override treasury;
    address public override arbiter;
    address public override guardian;

    modifier onlyOperator() {
        _requireOperator();
        _;
    }

    modifier onlyGuardianOrOwner() {
        if (msg.sender != guardian && msg.sender != owner()) revert NotGuardianOrOwner();
        _;
    }

    constructor(Config memory config) Ownable(config.owner) {
        _change(Change.SetTreasury, config.treasury);
        _change(Change.SetArbiter, config.arbiter);
        _change(Change.SetGuardian, config.guardian);
        for (uint256 i = 0; i < config.operators.length; ++i) {
            _change(Change.AddOperator, config.operators[i]);
        }
        for (uint256 i = 0; i < config.tokens.length; ++i) {
            _change(Change.ListToken, config.tokens[i]);
        }
    }

    /// @inheritdoc IEscrow
    function scheduleChange(Change change, address subject) external override onlyOwner {
        _requireFit(change, subject);
        // forge-lint: disable-next-line(unsafe-typecast) -- 40 bits last for 34,000 years
        uint40 moment = uint40(block.timestamp) + CHANGE_DELAY;
        readyAt[change][subject] = moment;
        emit ChangeScheduled(change, subject, moment);
    }

    /// @inheritdoc IEscrow
    function executeChange(Change change, address subject) external override onlyOwner {
        uint40 moment = readyAt[change][subject];
        if (moment == 0) revert ChangeNotScheduled();
        if (block.timestamp < moment) revert ChangeTooEarly();
        if (block.timestamp > moment + CHANGE_GRACE) revert ChangeTooLate();
        delete readyAt[change][subject];
        _change(change, subject);
    }

    /// @inheritdoc IEscrow
    function cancelChange(Change change, address subject) external override onlyOwner {
        if (!_forget(change, subject)) revert ChangeNotScheduled();
    }

    /// @inheritdoc IEscrow
    function removeOperator(address operator) external override onlyGuardianOrOwner {
        isOperator[operator] = false;
        emit OperatorSet(operator, false);
        _forget(Change.AddOperator, operator);
    }

    /// @inheritdoc IEscrow
    function removeArbiter() external override onlyGuardianOrOwner {
        _forget(Change.SetArbiter, arbiter);
        _change(Change.SetArbiter, address(0));
    }

    /// @inheritdoc IEscrow
    function pauseToken(address token) external override onlyGuardianOrOwner {
        _setPaused(token, true);
    }

    /// @inheritdoc IEscrow
    function unpauseToken(address token) external override onlyOwner {
        _setPaused(token, false);
    }

    /// @notice Refused: a slip here would leave the token list and the operators as they are for ever.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerRequired();
    }

    function _requireOperator() internal view {
        if (!isOperator[msg.sender]) revert NotOperator();
    }

    function _requireOpen(address token) internal view {
        _revertUnlessDone(_refusalOf(token));
    }

    /// @dev Why no money in `token` may come in; 0 where it may.
    function _refusalOf(address token) internal view returns (bytes4) {
        TokenState memory state = tokenState[token];
        if (!state.listed) return TokenNotListed.selector;
        return state.paused ? TokenIsPaused.selector : bytes4(0);
    }

    /// @dev Reverts with the error of that selector; 0 is none.
    function _revertUnlessDone(bytes4 refusal) internal pure {
        if (refusal == 0) return;
        assembly ("memory-safe") {
            mstore(0, refusal)
            revert(0, 4)
        }
    }

    function _requireFit(Change change, address subject) private view {
        if (change == Change.ListToken) {
            if (subject != address(0) && subject.code.length == 0) revert NotAContract();
        } else if (change == Change.AddOperator) {
            if (subject == address(0)) revert ZeroAddress();
        } else if (change == Change.SetTreasury) {
            if (subject == address(0)) revert ZeroAddress();
            if (subject == address(this)) revert PayeeIsEscrow();
        }
    }

    function _change(Change change, address subject) private {
        _requireFit(change, subject);
        if (change == Change.ListToken) {
            tokenState[subject].listed = true;
            emit TokenListed(subject);
        } else if (change == Change.AddOperator) {
            isOperator[subject] = true;
            emit OperatorSet(subject, true);
        } else if (change == Change.SetTreasury) {
            treasury = subject;
            emit TreasurySet(subject);
        } else if (change == Change.SetArbiter) {
            arbiter = subject;
            emit ArbiterSet(subject);
        } else {
            guardian = subject;
            emit GuardianSet(subject);
        }
    }

    /// @dev Drops a scheduled change, so that whoever lost a role does not come back without the whole delay.
    function _forget(Change change, address subject) private returns (bool isScheduled) {
        isScheduled = readyAt[change][subject] != 0;
        if (!isScheduled) return false;
        delete readyAt[change][subject];
        emit ChangeCancelled(change, subject);
    }

    function _setPaused(address token, bool paused) private {
        tokenState[token].paused = paused;
        emit TokenPaused(token, paused);
    }
}
