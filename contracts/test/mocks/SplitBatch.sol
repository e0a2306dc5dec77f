// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Split} from "../../src/Split.sol";

/// @notice Runs the escrow's own money arithmetic over many inputs in one call, so that other implementations can be
/// compared with it. TEST ONLY.
contract SplitBatch {
    /// @notice One rental: billed for `secs` in the end, after `settledSecs` were released.
    struct Input {
        uint96 deposit;
        uint96 pricePerHour;
        uint16 feeBps;
        uint32 settledSecs;
        uint32 secs;
    }

    /// @notice What closing it pays, and the seconds that the deposit pays for.
    struct Output {
        uint32 fundedSecs;
        uint32 billedSecs;
        uint96 net;
        uint96 fee;
        uint96 refund;
    }

    /// @notice Each input's closing. What cannot occur in the escrow reverts: a price of 0, a fee above 10,000 basis
    /// points, more seconds settled than funded.
    function run(Input[] calldata inputs) external pure returns (Output[] memory outputs) {
        outputs = new Output[](inputs.length);
        for (uint256 i = 0; i < inputs.length; ++i) {
            Input calldata x = inputs[i];
            Output memory y = outputs[i];
            require(x.pricePerHour != 0 && x.feeBps <= 10_000, "not a rental");
            y.fundedSecs = Split.fundedSecs(x.deposit, x.pricePerHour);
            require(x.settledSecs <= y.fundedSecs, "settled above funded");
            y.billedSecs = Split.billedSecs(x.deposit, x.pricePerHour, x.settledSecs, x.secs);
            Split.Shares memory s = Split.shares(x.deposit, x.pricePerHour, x.feeBps, x.settledSecs, y.billedSecs);
            y.net = s.net;
            y.fee = s.fee;
            y.refund = s.refund;
        }
    }
}
