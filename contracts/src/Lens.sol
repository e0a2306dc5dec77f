// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "./Escrow.sol";
import {Rental, Status, Terms} from "./IEscrow.sol";
import {Split} from "./Split.sol";

/// @notice What a rental comes to if it is stopped in this very block or, while `Contested`, if nobody says anything
/// more; cumulative, so that what was paid before is included. `net + fee + refund` is the deposit.
/// @param billedSecs Seconds that would be billed; 0 until started.
/// @param gross `net + fee`.
/// @param net The provider's.
/// @param fee The treasury's.
/// @param refund The renter's.
/// @param fundedUntil Unix second at which the deposit is used up; 0 unless active.
struct Preview {
    uint32 billedSecs;
    uint96 gross;
    uint96 net;
    uint96 fee;
    uint96 refund;
    uint40 fundedUntil;
}

/// @notice Which calls an account could make about a rental in this very block.
/// @param contestSecs Most seconds that `contest` takes; 0 where it is refused.
/// @param releaseSecs Seconds that `release` would settle; 0 where it is refused.
struct Actions {
    bool topUp;
    bool start;
    bool cancel;
    bool reclaim;
    bool stop;
    bool close;
    bool dispute;
    bool concede;
    bool resolve;
    bool finalize;
    uint32 contestSecs;
    uint32 releaseSecs;
}

/// @title What can be said about a rental of the escrow, for people and for clients
/// @dev Holds nothing and is trusted by nobody: it reads the escrow's public views.
contract Lens {
    Escrow public immutable ESCROW;

    constructor(Escrow escrow) {
        ESCROW = escrow;
    }

    /// @notice What the rental comes to if stopped now; all 0 where it is not open.
    function preview(Terms calldata t) external view returns (Preview memory p) {
        Rental memory r = ESCROW.rental(ESCROW.hashTerms(t));
        p.refund = r.deposit;
        if (r.status == Status.Active) {
            p.billedSecs = Split.billedSecs(r.deposit, t.pricePerHour, r.settledSecs, block.timestamp - r.since);
            p.fundedUntil = _fundedUntil(t, r);
        } else if (r.status == Status.Contested) {
            uint32 toRenter = r.providerDisputes ? 0 : r.contestedSecs - r.claimSecs;
            p.billedSecs = r.settledSecs + r.contestedSecs - toRenter;
        } else {
            return p;
        }
        Split.Shares memory s = Split.shares(r.deposit, t.pricePerHour, t.feeBps, 0, p.billedSecs);
        p.gross = s.net + s.fee;
        p.net = s.net;
        p.fee = s.fee;
        p.refund = s.refund;
    }

    /// @notice What `account` could do about the rental now; pauses and signatures left aside.
    function actions(Terms calldata t, address account) external view returns (Actions memory a) {
        Rental memory r = ESCROW.rental(ESCROW.hashTerms(t));
        // As in the escrow: a party speaks for itself, then an agent for the renter first.
        bool isProvider = account == t.provider;
        bool isRenter = account == t.renter || (!isProvider && _isAgentOf(account, t.renter));
        isProvider = isProvider || (!isRenter && _isAgentOf(account, t.provider));
        if (r.status == Status.Locked) {
            a.reclaim = block.timestamp > t.startBy + ESCROW.START_WINDOW();
            a.topUp = !a.reclaim;
            a.start = a.topUp && ESCROW.isOperator(account);
            a.cancel = account == t.provider || ESCROW.isOperator(account);
        } else if (r.status == Status.Active) {
            uint40 fundedUntil = _fundedUntil(t, r);
            a.topUp = block.timestamp < fundedUntil;
            a.stop = isRenter || isProvider || block.timestamp > fundedUntil + ESCROW.CLOSE_WINDOW();
            a.close = ESCROW.isOperator(account);
            uint32 clockSecs = Split.billedSecs(r.deposit, t.pricePerHour, r.settledSecs, block.timestamp - r.since);
            if (isRenter) a.contestSecs = Split.claimSecs(r.settledSecs, clockSecs, t.holdback);
            uint32 releasable = Split.releasableSecs(r.deposit, t.pricePerHour, t.holdback, block.timestamp - r.since);
            if (releasable > r.settledSecs) a.releaseSecs = releasable - r.settledSecs;
        } else if (r.status == Status.Contested) {
            bool isDisputed = r.renterDisputes || r.providerDisputes;
            uint40 windowEnd = isDisputed ? r.deadline - ESCROW.ARBITRATION() : r.deadline;
            bool isOpen = block.timestamp <= windowEnd;
            bool isClaimFree = r.claimSecs != 0 && !r.renterDisputes;
            bool isCreditFree = r.contestedSecs != r.claimSecs && !r.providerDisputes;
            a.dispute = isOpen && ((isRenter && isClaimFree) || (isProvider && isCreditFree));
            a.concede = isRenter || isProvider;
            a.finalize = block.timestamp > r.deadline;
            a.resolve =
                account == ESCROW.arbiter() && isDisputed && !a.finalize && !(isOpen && (isClaimFree || isCreditFree));
        }
    }

    function _fundedUntil(Terms calldata t, Rental memory r) private pure returns (uint40) {
        return r.since + Split.fundedSecs(r.deposit, t.pricePerHour);
    }

    function _isAgentOf(address who, address account) private view returns (bool) {
        (address agent, uint40 expiresAt) = ESCROW.agentOf(account);
        return who != address(0) && who == agent && block.timestamp <= expiresAt;
    }
}
