// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice What a rental needs of Sablier Flow 3.0.1. `ratePerSecond` has 18 decimals whatever the token has.
interface ISablierFlow {
    function createAndDeposit(
        address sender,
        address recipient,
        uint128 ratePerSecond,
        uint40 startTime,
        address token,
        bool transferable,
        uint128 amount
    )
        external
        payable
        returns (uint256 streamId);
    function batch(bytes[] calldata calls) external payable returns (bytes[] memory results);
    function pause(uint256 streamId) external payable;
    function refundMax(uint256 streamId) external payable returns (uint128 refunded);
    function withdrawMax(uint256 streamId, address to) external payable returns (uint128 withdrawn);
    function getBalance(uint256 streamId) external view returns (uint128);
}

interface ISablierComptroller {
    function initialize(
        address admin,
        uint256 airdropMinFeeUsd,
        uint256 bobMinFeeUsd,
        uint256 flowMinFeeUsd,
        uint256 lockupMinFeeUsd,
        address oracle
    )
        external;
}
